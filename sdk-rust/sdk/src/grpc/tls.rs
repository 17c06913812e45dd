//! TLS settings of both sides, and the errors of gRPC setup.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// Timeout of a TLS handshake, so that an idle peer does not occupy a connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS settings of a server. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Server certificate and its chain.
    pub cert_file: PathBuf,
    /// Private key of the certificate.
    pub key_file: PathBuf,
    /// CA certificates of permitted clients (mutual TLS); `None` permits all clients.
    pub client_ca_file: Option<PathBuf>,
}

impl ServerTls {
    pub(super) fn read(&self) -> Result<ServerTlsConfig, GrpcError> {
        install_crypto_provider();
        let mut config = ServerTlsConfig::new()
            .identity(identity(&self.cert_file, &self.key_file)?)
            .timeout(HANDSHAKE_TIMEOUT);
        if let Some(authorities) = &self.client_ca_file {
            config = config.client_ca_root(certificate(authorities)?);
        }
        // Tonic validates certificate and key only when it builds a server.
        tonic::transport::Server::builder()
            .tls_config(config.clone())
            .map_err(|error| GrpcError::Tls(Box::new(error)))?;
        Ok(config)
    }
}

/// TLS settings of a client for `https://` URLs. All files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// CA certificates to trust instead of the system roots.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its chain, for mutual TLS.
    pub cert_file: Option<PathBuf>,
    /// Private key of the certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the server certificate must contain instead of the host name of the URL.
    pub server_name: Option<String>,
}

impl ClientTls {
    pub(super) fn read(&self) -> Result<ClientTlsConfig, GrpcError> {
        install_crypto_provider();
        let mut config = ClientTlsConfig::new().timeout(HANDSHAKE_TIMEOUT);
        config = match &self.ca_file {
            Some(authorities) => config.ca_certificate(certificate(authorities)?),
            None => config.with_native_roots(),
        };
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        match (&self.cert_file, &self.key_file) {
            (None, None) => Ok(config),
            (Some(certificate), Some(key)) => Ok(config.identity(identity(certificate, key)?)),
            _ => Err(GrpcError::IncompleteKeyPair),
        }
    }

    /// Returns whether no setting is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reason gRPC cannot be served or a channel cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// The URL is invalid.
    #[error("invalid URL {0:?} (expected http://host:port or https://host:port)")]
    InvalidUrl(String),
    /// TLS is configured for a plaintext URL.
    #[error("URL {0:?} must be https://, because TLS is configured")]
    PlaintextUrl(String),
    /// Either the client certificate or its key is missing.
    #[error("the client certificate and its private key must be configured together")]
    IncompleteKeyPair,
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Reason it cannot be read.
        source: io::Error,
    },
    /// The files contain no valid certificates or keys.
    #[error("invalid certificate or key")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The listener cannot bind its address.
    #[error("cannot listen on {address}")]
    Bind {
        /// Listen address.
        address: SocketAddr,
        /// Reason it cannot be bound.
        source: io::Error,
    },
}

/// Sets the default crypto provider, which rustls needs if several are linked in. A provider that
/// is already set stays.
fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn certificate(path: &Path) -> Result<Certificate, GrpcError> {
    read(path).map(Certificate::from_pem)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, GrpcError> {
    Ok(Identity::from_pem(read(certificate)?, read(key)?))
}

fn read(path: &Path) -> Result<Vec<u8>, GrpcError> {
    std::fs::read(path).map_err(|source| GrpcError::File {
        path: path.to_owned(),
        source,
    })
}
