//! Certificates of both sides, and why they cannot be used.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// How long a handshake may take: a peer that connects and says nothing holds no place for long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How a listener shows who it is, and whom it lets in. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Our certificate and its chain.
    pub cert_file: PathBuf,
    /// The key to it.
    pub key_file: PathBuf,
    /// The authorities of those who may call (mutual TLS); without it everybody may.
    pub client_ca_file: Option<PathBuf>,
}

impl ServerTls {
    pub(super) fn read(&self) -> Result<ServerTlsConfig, GrpcError> {
        choose_provider();
        let mut config = ServerTlsConfig::new()
            .identity(identity(&self.cert_file, &self.key_file)?)
            .timeout(HANDSHAKE);
        if let Some(authorities) = &self.client_ca_file {
            config = config.client_ca_root(certificate(authorities)?);
        }
        // Only a server that is built says whether certificate and key can be used.
        tonic::transport::Server::builder()
            .tls_config(config.clone())
            .map_err(|error| GrpcError::Tls(Box::new(error)))?;
        Ok(config)
    }
}

/// Whom a channel to `https://` trusts, and how it shows who we are. All files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities to trust instead of those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its chain, for mutual TLS.
    pub cert_file: Option<PathBuf>,
    /// The key to it.
    pub key_file: Option<PathBuf>,
    /// The name that must stand in the peer's certificate instead of that in the URL.
    pub server_name: Option<String>,
}

impl ClientTls {
    pub(super) fn read(&self) -> Result<ClientTlsConfig, GrpcError> {
        choose_provider();
        let mut config = ClientTlsConfig::new().timeout(HANDSHAKE);
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
            _ => Err(GrpcError::HalfAPair),
        }
    }

    /// Whether anything is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why gRPC cannot be served, or a channel not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// The URL is none.
    #[error("{0:?} is not a URL like http://host:port or https://host:port")]
    Url(String),
    /// Certificates were given for a URL that asks for no TLS.
    #[error("{0:?} asks for no TLS, but there are certificates for it; write https://")]
    PlainUrl(String),
    /// A certificate without its key or a key without its certificate.
    #[error("a certificate needs both its file and the file of its key")]
    HalfAPair,
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files hold no usable certificates or keys.
    #[error("the certificates cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Two crypto providers may be linked in, and then rustls asks which. An earlier choice stands.
fn choose_provider() {
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
