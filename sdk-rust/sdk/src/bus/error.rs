//! Errors of the bus itself.

use std::io;
use std::path::PathBuf;

use async_nats::client::PublishErrorKind;

use crate::connect::TlsFileError;

/// Reason a connection cannot be established.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server is configured.
    #[error("no NATS server is configured")]
    NoServer,
    /// The address of a server is invalid; userinfo is redacted.
    #[error("invalid NATS server address {0:?} (expected nats://host:port)")]
    InvalidAddress(String),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Reason it cannot be read.
        source: io::Error,
    },
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A seed or a credentials file has the wrong format.
    #[error("invalid NATS credentials in {0}")]
    InvalidCredentials(
        String,
        /// The defect, without secrets.
        #[source]
        Box<dyn std::error::Error + Send + Sync>,
    ),
    /// The URLs of the servers contain different credentials.
    #[error("the NATS URLs contain different credentials")]
    AmbiguousUserinfo,
    /// The servers reject the credentials.
    #[error("the NATS server at {servers} rejects {credentials}")]
    Unauthorized {
        /// The servers, userinfo redacted.
        servers: String,
        /// The rejected credentials, without secrets.
        credentials: String,
    },
    /// No server is reachable, or none is trusted.
    #[error("cannot connect to NATS at {servers}")]
    Unreachable {
        /// The servers, userinfo redacted.
        servers: String,
        /// Error of the most recent attempt.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reason an operation on a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The connection is down; it is being re-established.
    #[error("no connection to the broker")]
    Disconnected,
    /// The connection was closed for good.
    #[error("the connection to the broker is closed")]
    Closed,
    /// The broker does not accept a message of this size.
    #[error("the message is larger than the broker accepts")]
    MessageTooLarge,
    /// The subject is invalid.
    #[error("invalid subject")]
    InvalidSubject,
}

impl BusError {
    pub(super) fn from_publish(error: async_nats::PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Self::MessageTooLarge,
            PublishErrorKind::InvalidSubject => Self::InvalidSubject,
            PublishErrorKind::Send => Self::Closed,
        }
    }
}
