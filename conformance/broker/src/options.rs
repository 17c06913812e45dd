//! The options of a broker.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Options of a [`Broker`](crate::Broker), each with a default.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Address to listen on. Port 0 selects a free port, which the broker keeps on restarts.
    /// Default: 127.0.0.1:0.
    pub addr: SocketAddr,
    /// Maximum size of a message: headers and payload. Default: 1 MiB, as in nats-server.
    pub max_payload_bytes: usize,
    /// Maximum amount of unsent data for one client. A client that exceeds it is disconnected as a
    /// slow consumer. Default: 64 MiB, as in nats-server.
    pub max_pending_bytes: usize,
    /// Time after which a client that reads none of its pending data is disconnected.
    /// Default: 10 s.
    pub write_deadline: Duration,
    /// Interval between pings to a client. Default: 20 s.
    pub ping_interval: Duration,
    /// Unanswered pings after which a client is disconnected as stale. Default: 2.
    pub max_pings_out: u32,
    /// Credentials that clients must present. Default: none.
    pub auth: Auth,
    /// Time within which a client must present its credentials, or send anything if it needs none.
    /// Default: 2 s, as in nats-server for credentials.
    pub auth_timeout: Duration,
    /// Maximum number of connections. Default: 8192.
    pub max_connections: usize,
    /// Maximum number of subscriptions per connection. Default: 65536.
    pub max_subscriptions: usize,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            max_payload_bytes: 1024 * 1024,
            max_pending_bytes: 64 * 1024 * 1024,
            write_deadline: Duration::from_secs(10),
            // Six times as often as nats-server, because a suite must detect a dead peer within a
            // minute.
            ping_interval: Duration::from_secs(20),
            max_pings_out: 2,
            auth: Auth::None,
            auth_timeout: Duration::from_secs(2),
            // A simulated fleet of several thousand hosts, with headroom.
            max_connections: 8192,
            // A scheduler with one reply subscription per host, with headroom.
            max_subscriptions: 65_536,
        }
    }
}

/// Credentials that clients must present. The `Debug` output contains no secret.
#[derive(Clone, Default)]
pub enum Auth {
    /// No credentials.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    UserPassword {
        /// Name of the user.
        user: String,
        /// Password of the user.
        password: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(…)",
            Self::UserPassword { .. } => "UserPassword(…)",
        })
    }
}
