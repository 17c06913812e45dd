//! What a broker can be told when it starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Settings of a [`Broker`](crate::Broker), each with a default.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where to listen. Port 0 picks a free port, which stays the broker's over restarts.
    /// Default: 127.0.0.1:0.
    pub addr: SocketAddr,
    /// The largest body of a message, headers and payload together. Default: 1 MiB, as nats-server.
    pub max_payload_bytes: usize,
    /// What may wait to be written to one client before it is cut as a slow consumer.
    /// Default: 64 MiB, as nats-server.
    pub max_pending_bytes: usize,
    /// How long a client may take nothing of what waits for it before it is cut. Default: 10 s.
    pub write_deadline: Duration,
    /// How often a client is pinged. Default: 20 s.
    pub ping_interval: Duration,
    /// How many pings may go unanswered before a client is taken for dead. Default: 2.
    pub max_pings_out: u32,
    /// What clients must show. Default: nothing.
    pub auth: Auth,
    /// How long a client may take to show it. Default: 2 s, as nats-server.
    pub auth_timeout: Duration,
    /// Connections at one time. Default: 8192.
    pub max_connections: usize,
    /// Subscriptions of one connection. Default: 65536.
    pub max_subscriptions: usize,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            max_payload_bytes: 1024 * 1024,
            max_pending_bytes: 64 * 1024 * 1024,
            write_deadline: Duration::from_secs(10),
            // Six times as often as nats-server: a suite wants to see a dead peer within a minute.
            ping_interval: Duration::from_secs(20),
            max_pings_out: 2,
            auth: Auth::None,
            auth_timeout: Duration::from_secs(2),
            // A simulated fleet of some thousand hosts, with room.
            max_connections: 8192,
            // A scheduler that waits for one reply subject per host, with room.
            max_subscriptions: 65_536,
        }
    }
}

/// What a client must show to be let in. Its `Debug` shows no secret.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
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
