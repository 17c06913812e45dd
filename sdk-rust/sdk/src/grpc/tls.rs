//! TLS settings of both sides, and the errors of gRPC setup.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::connect::TlsFileError;
use crate::tls_files;

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
        let (certificate_file, key) = (Some(&*self.cert_file), Some(&*self.key_file));
        tls_files::check(self.client_ca_file.as_deref(), certificate_file, key)?;
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
        let (certificate_file, key) = (self.cert_file.as_deref(), self.key_file.as_deref());
        tls_files::check(self.ca_file.as_deref(), certificate_file, key)?;
        let mut config = ClientTlsConfig::new().timeout(HANDSHAKE_TIMEOUT);
        config = match &self.ca_file {
            Some(authorities) => config.ca_certificate(certificate(authorities)?),
            None => config.with_native_roots(),
        };
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (certificate_file, key) {
            config = config.identity(identity(certificate, key)?);
        }
        Ok(config)
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
    /// The files for TLS cannot be used.
    #[error(transparent)]
    TlsFiles(#[from] TlsFileError),
    /// The certificates and keys cannot be used for gRPC.
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

fn certificate(path: &Path) -> Result<Certificate, GrpcError> {
    read(path).map(Certificate::from_pem)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, GrpcError> {
    Ok(Identity::from_pem(read(certificate)?, read(key)?))
}

fn read(path: &Path) -> Result<Vec<u8>, GrpcError> {
    std::fs::read(path).map_err(|source| {
        GrpcError::TlsFiles(TlsFileError::Unreadable {
            path: path.to_owned(),
            source,
        })
    })
}
