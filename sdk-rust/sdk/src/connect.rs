//! Options for connecting to the brokers.

mod secret;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use self::secret::Secret;
use crate::tls_files;
pub use crate::tls_files::TlsFileError;

/// Default address of nats-server.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// Options for connecting to the bus. Nothing is read or opened before the connection is made.
///
/// Files with credentials and nkeys are read again at each reconnect, so that they can be rotated.
/// `Debug` redacts all secrets, also in URLs.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Servers of one cluster, `nats://host:port` or `tls://host:port`; each element may itself be
    /// a comma-separated list. `user:password@` or `token@` in a URL applies to all servers and
    /// replaces `auth`; only beside [`Auth::CredentialsFile`], both are sent, and the server
    /// chooses.
    pub servers: Vec<String>,
    /// Client name that the brokers list for this connection.
    pub name: Option<String>,
    /// Credentials of the client.
    pub auth: Auth,
    /// PEM file with the CA certificates to trust instead of the system roots. Like
    /// `tls_cert_file`, it rejects servers without TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// PEM file with the client certificate and its chain, for mutual TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of `tls_cert_file`.
    pub tls_key_file: Option<PathBuf>,
    /// Whether to reject servers without TLS, as do `tls://` in a URL, `tls_first`, and each of the
    /// files above, for all servers. No credentials are sent to them.
    pub tls_required: bool,
    /// Whether to start with the TLS handshake, for servers with `handshake_first`.
    pub tls_first: bool,
    /// Subject prefix of reply inboxes, if permissions require one other than `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// Timeout of one attempt to connect to one server.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// Creates options for these servers, without TLS files or credentials.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Returns whether a server without TLS is rejected, whatever its URL.
    pub(crate) fn requires_tls(&self) -> bool {
        self.tls_required
            || self.tls_first
            || self.tls_ca_file.is_some()
            || self.tls_cert_file.is_some()
    }

    /// Checks whether the files for TLS can be used.
    pub(crate) fn check_tls_files(&self) -> Result<(), TlsFileError> {
        tls_files::check(
            self.tls_ca_file.as_deref(),
            self.tls_cert_file.as_deref(),
            self.tls_key_file.as_deref(),
        )
    }

    /// Creates options for one server or a comma-separated list.
    pub fn to(server: impl Into<String>) -> Self {
        Self::new([server.into()])
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            servers: vec![DEFAULT_SERVER.to_owned()],
            name: None,
            auth: Auth::None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_required: false,
            tls_first: false,
            inbox_prefix: None,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self
            .servers
            .iter()
            .map(|list| redact_userinfo(list))
            .collect();
        f.debug_struct("ConnectOptions")
            .field("servers", &servers)
            .field("name", &self.name)
            .field("auth", &self.auth)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_cert_file", &self.tls_cert_file)
            .field("tls_key_file", &self.tls_key_file)
            .field("tls_required", &self.tls_required)
            .field("tls_first", &self.tls_first)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// Credentials of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// No credentials, or only a client certificate.
    #[default]
    None,
    /// A token shared by all clients.
    Token(Secret),
    /// A user name and password.
    UserPassword {
        /// User name.
        user: String,
        /// Password of the user.
        password: Secret,
    },
    /// Seed of an nkey (`SU…`).
    NkeySeed(Secret),
    /// File with the seed of an nkey.
    NkeySeedFile(PathBuf),
    /// File with a user JWT and its seed, as written by `nsc`.
    CredentialsFile(PathBuf),
}

/// Redacts everything between `//` and `@` in a list of servers, for logs and errors.
pub fn redact_userinfo(servers: &str) -> String {
    let redacted = servers.split(',').map(|server| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("", server));
        let Some((_, address)) = rest.rsplit_once('@') else {
            return server.to_owned();
        };
        if scheme.is_empty() {
            format!("***@{address}")
        } else {
            format!("{scheme}://***@{address}")
        }
    });
    redacted.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_redacts_secrets() {
        let options = ConnectOptions {
            auth: Auth::UserPassword {
                user: "ann".into(),
                password: "hunter2".into(),
            },
            ..ConnectOptions::to("nats://bob:hunter3@a:4222,hunter4@b")
        };
        let text = format!("{options:?} {:?}", Auth::Token("hunter5".into()));
        assert!(!text.contains("hunter"), "{text}");
        assert!(text.contains("nats://***@a:4222,***@b"), "{text}");
    }
}
