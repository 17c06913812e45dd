//! What can go wrong with the bus itself.

use std::io;
use std::path::PathBuf;

use async_nats::client::PublishErrorKind;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server was named.
    #[error("no server is named")]
    NoServer,
    /// The address of a server is none; userinfo is hidden.
    #[error("{0:?} is not the address of a NATS server (nats://host:port)")]
    Address(String),
    /// A certificate without its key or a key without its certificate.
    #[error("a client certificate needs both its file and the file of its key")]
    HalfAPair,
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A seed, or a file of credentials, that is not in the form it must have.
    #[error("{0} is not usable as NATS credentials")]
    Credentials(String),
    /// The servers do not know us.
    #[error("the NATS server at {servers} refuses our credentials")]
    Refused {
        /// The servers, userinfo hidden.
        servers: String,
    },
    /// No server can be reached, or none that we trust.
    #[error("cannot connect to NATS at {servers}")]
    Unreachable {
        /// The servers, userinfo hidden.
        servers: String,
        /// Why the last one could not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why something could not be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no connection now; it is being made again.
    #[error("there is no connection to the broker")]
    Disconnected,
    /// The connection was closed for good.
    #[error("the connection to the broker is closed")]
    Closed,
    /// The broker does not take a message of this size.
    #[error("the message is larger than the broker takes")]
    TooLarge,
    /// The subject is none.
    #[error("the subject is not valid")]
    Subject,
}

impl BusError {
    pub(super) fn of_publish(error: async_nats::PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge,
            PublishErrorKind::InvalidSubject => Self::Subject,
            PublishErrorKind::Send => Self::Closed,
        }
    }
}
