//! Registries over https: which certificates are trusted, and that https is not left.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::registry::{Image, Registry};
use super::{chain, options, pull};

/// A certificate for 127.0.0.1, as a server and as a file to trust.
fn certificate() -> (TlsAcceptor, NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
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
async fn a_registry_is_trusted_by_the_given_authority_and_by_no_other() {
    let ((tls, ours), (_, other)) = (certificate(), certificate());
    let registry = Registry::serve_tls(tls, &Image::new("one")).await;
    let store = store_trusting(vec![other.path().into(), ours.path().into()]);
    let got = pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    assert_eq!(got.bytes, "one");

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
async fn an_insecure_registry_is_not_asked_over_https() {
    let (tls, ours) = certificate();
    let registry = Registry::serve_tls(tls, &Image::new("one")).await;
    let options = StoreOptions {
        registry_ca_paths: vec![ours.path().into()],
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
fn a_file_without_certificates_is_an_error_at_once() {
    let empty = NamedTempFile::new().unwrap();
    for (path, words) in [
        (empty.path().to_owned(), "has no PEM certificates"),
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
