//! How to reach and convince the brokers of a real deployment.

mod secret;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use self::secret::Secret;

/// Where nats-server listens when nobody says otherwise.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// How to reach the bus. Nothing is read or opened before a connection is made.
///
/// Files of credentials and nkeys are read again at each reconnect, so that they can be rotated.
/// `Debug` shows no secret, also none that stands in a URL.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Servers of one cluster, `nats://host:port` or `tls://host:port`; each may itself be a list
    /// separated by commas. `user:password@` or `token@` in the first one counts when `auth` is
    /// [`Auth::None`].
    pub servers: Vec<String>,
    /// The name under which the brokers list this connection.
    pub name: Option<String>,
    /// Who we are.
    pub auth: Auth,
    /// A PEM file of the authorities to trust instead of those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// A PEM file with our certificate and its chain, for mutual TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// The PEM file with the key to `tls_cert_file`.
    pub tls_key_file: Option<PathBuf>,
    /// Refuse to talk to a broker without TLS. `tls://` in a URL does the same for that server.
    pub tls_required: bool,
    /// Begin with TLS before the broker's greeting, for brokers with `handshake_first`.
    pub tls_first: bool,
    /// What replies are addressed to, where permissions ask for another prefix than `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// How long one attempt to connect to one server may take.
    pub connect_timeout: Duration,
}

impl ConnectOptions {
    /// Options for these servers, without TLS files and credentials.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Options for one server or a list separated by commas.
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
            .map(|list| without_userinfo(list))
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

/// How the brokers know us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all, or by certificate.
    #[default]
    None,
    /// A token that all clients share.
    Token(Secret),
    /// A user with a password.
    UserPassword {
        /// The user.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// The seed of an nkey (`SU…`).
    NkeySeed(Secret),
    /// A file that holds the seed of an nkey.
    NkeySeedFile(PathBuf),
    /// A file with a user JWT and the seed that signs for it, as `nsc` writes it.
    CredentialsFile(PathBuf),
}

/// The list of servers with everything between `//` and `@` hidden, fit for logs and errors.
pub fn without_userinfo(servers: &str) -> String {
    let hidden = servers.split(',').map(|server| {
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
    hidden.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
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
