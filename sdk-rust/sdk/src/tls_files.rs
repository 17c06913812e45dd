//! The files for TLS, checked before their use, because the libraries for them name no file.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Reason the files for TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// Either the certificate or its key is missing.
    #[error("the certificate and its private key must be configured together")]
    IncompleteKeyPair,
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Reason it cannot be read.
        source: io::Error,
    },
    /// A file has the wrong content.
    #[error("invalid {content} in {path}")]
    Invalid {
        /// The expected content.
        content: &'static str,
        /// The file.
        path: PathBuf,
        /// The defect.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The certificate and the private key cannot be used together.
    #[error("cannot use certificate {certificate} with private key {key}")]
    InvalidKeyPair {
        /// File with the certificate.
        certificate: PathBuf,
        /// File with the key.
        key: PathBuf,
        /// Reason they cannot be used.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Checks whether all files can be used: CA certificates, a certificate, and its key.
pub(crate) fn check(
    authorities: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<(), TlsFileError> {
    // If several crypto providers are linked in, rustls needs a default. The first one set wins.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    if let Some(path) = authorities {
        for certificate in certificates("CA certificates", path)? {
            let added = roots.add(certificate);
            added.map_err(|error| invalid("CA certificates", path, error))?;
        }
    }
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(()),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(TlsFileError::IncompleteKeyPair),
    };
    let chain = certificates("certificate", certificate)?;
    let private_key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| invalid_pem("private key", key, error))?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private_key);
    match config {
        Ok(_) => Ok(()),
        Err(source) => Err(TlsFileError::InvalidKeyPair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source: Box::new(source),
        }),
    }
}

fn certificates(
    content: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(invalid_pem(content, path, pem::Error::NoItemsFound))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(invalid_pem(content, path, error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|source| TlsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn invalid_pem(content: &'static str, path: &Path, error: pem::Error) -> TlsFileError {
    match error {
        pem::Error::NoItemsFound => invalid(content, path, "the file contains none in PEM format"),
        error => invalid(content, path, error),
    }
}

fn invalid(
    content: &'static str,
    path: &Path,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> TlsFileError {
    TlsFileError::Invalid {
        content,
        path: path.to_owned(),
        source: source.into(),
    }
}
