//! Registries over https: trusted certificates, and no fallback to or from plain HTTP.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::mock_registry::{Image, MockRegistry};
use super::{chain, options, pull};

/// Creates a certificate for 127.0.0.1, for a server and as a PEM file.
fn certificate() -> (TlsAcceptor, NamedTempFile) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (pem, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

fn store_trusting(registry_ca_paths: Vec<PathBuf>) -> Store {
    let options = StoreOptions {
        allow_all_insecure: false,
        registry_ca_paths,
        ..options()
    };
    Store::new(options).unwrap()
}

#[tokio::test]
async fn trusts_only_configured_authorities() {
    let ((tls, trusted), (_, other)) = (certificate(), certificate());
    let registry = MockRegistry::serve_tls(tls, &Image::new("one")).await;
    let store = store_trusting(vec![other.path().into(), trusted.path().into()]);
    let artifact = pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    assert_eq!(artifact.bytes, "one");

    let store = store_trusting(vec![other.path().into()]);
    let error = pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), PullCause::Connect { .. }),
        "{error:?}"
    );
    assert!(chain(&error).contains("over https"), "{}", chain(&error));
}

#[tokio::test]
async fn does_not_use_https_for_insecure_registry() {
    let (tls, trusted) = certificate();
    let registry = MockRegistry::serve_tls(tls, &Image::new("one")).await;
    let options = StoreOptions {
        registry_ca_paths: vec![trusted.path().into()],
        ..options()
    };
    let store = Store::new(options).unwrap();
    let error = pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), PullCause::Transport { .. }),
        "{error:?}"
    );
}

#[test]
fn rejects_invalid_ca_file_at_creation() {
    let empty = NamedTempFile::new().unwrap();
    for (path, words) in [
        (empty.path().to_owned(), "no valid PEM certificate"),
        (
            PathBuf::from("/nowhere/ca.pem"),
            "cannot read the CA certificates",
        ),
    ] {
        let options = StoreOptions {
            registry_ca_paths: vec![path],
            ..options()
        };
        let error = Store::new(options).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(words), "{source}");
    }
}
