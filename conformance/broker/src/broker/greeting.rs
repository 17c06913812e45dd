//! The JSON of INFO and CONNECT.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Auth, BrokerOptions};

/// The release of nats-server whose core protocol this broker speaks; clients switch features by it.
const VERSION: &str = "2.10.0";

/// What INFO says to one client.
pub(super) fn info(
    options: &BrokerOptions,
    server_id: &str,
    addr: SocketAddr,
    client_id: u64,
    client: SocketAddr,
) -> String {
    json!({
        "server_id": server_id,
        "server_name": "berth-broker",
        "version": VERSION,
        "proto": 1,
        "host": addr.ip().to_string(),
        "port": addr.port(),
        "headers": true,
        "auth_required": !matches!(options.auth, Auth::None),
        "max_payload": options.max_payload_bytes,
        "client_id": client_id,
        "client_ip": client.ip().to_string(),
    })
    .to_string()
}

/// What a client asked for in CONNECT. Credentials are looked at and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Acknowledge every operation.
    pub(super) verbose: bool,
    /// Check subjects strictly.
    pub(super) pedantic: bool,
    /// Deliver the client's own messages to it.
    pub(super) echo: bool,
    /// Understands headers.
    pub(super) headers: bool,
    /// Wants to be told when a request reaches nobody.
    pub(super) no_responders: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        // What the protocol lays down for a client that says nothing.
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
        }
    }
}

/// Why a CONNECT is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no JSON object.
    Malformed,
    /// The credentials are missing or wrong.
    Unauthorized,
    /// It wants no-responders without understanding headers.
    NeedsHeaders,
}

/// Reads a CONNECT and checks its credentials.
pub(super) fn connect(json: &[u8], auth: &Auth) -> Result<Wishes, Refused> {
    let connect: Value = serde_json::from_slice(json).map_err(|_| Refused::Malformed)?;
    if !connect.is_object() {
        return Err(Refused::Malformed);
    }
    let text = |name| {
        connect
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let allowed = match auth {
        Auth::None => true,
        Auth::Token(token) => same(text("auth_token"), token),
        Auth::UserPassword { user, password } => {
            same(text("user"), user) & same(text("pass"), password)
        }
    };
    if !allowed {
        return Err(Refused::Unauthorized);
    }
    let flag = |name, default| {
        connect
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    };
    let unsaid = Wishes::default();
    let wishes = Wishes {
        verbose: flag("verbose", unsaid.verbose),
        pedantic: flag("pedantic", unsaid.pedantic),
        echo: flag("echo", unsaid.echo),
        headers: flag("headers", unsaid.headers),
        no_responders: flag("no_responders", unsaid.no_responders),
    };
    if wishes.no_responders && !wishes.headers {
        return Err(Refused::NeedsHeaders);
    }
    Ok(wishes)
}

/// Compares secrets in a time that depends on their length only.
fn same(shown: &str, expected: &str) -> bool {
    let differences = shown
        .bytes()
        .zip(expected.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    shown.len() == expected.len() && differences == 0
}
