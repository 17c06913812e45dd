//! The JSON of INFO and CONNECT, and the check of credentials.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Auth, BrokerOptions};

/// The nats-server release whose core protocol this broker implements; clients enable features by
/// it.
const VERSION: &str = "2.10.0";

/// Returns the INFO of one client.
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

/// The options that a client sends in CONNECT, without its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientOptions {
    /// Send `+OK` after every operation.
    pub(super) verbose: bool,
    /// Check subjects strictly.
    pub(super) pedantic: bool,
    /// Deliver the client's own messages to it.
    pub(super) echo: bool,
    /// The client supports headers.
    pub(super) headers: bool,
    /// Report requests without a subscriber to the client.
    pub(super) no_responders: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        // The defaults that the protocol defines for absent fields.
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
        }
    }
}

/// Reasons to reject a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectError {
    /// The CONNECT is not a JSON object.
    Malformed,
    /// The credentials are missing or wrong.
    Unauthorized,
    /// The CONNECT enables no-responders without headers.
    HeadersRequired,
}

/// Parses a CONNECT and checks its credentials.
pub(super) fn connect(json: &[u8], auth: &Auth) -> Result<ClientOptions, ConnectError> {
    let connect: Value = serde_json::from_slice(json).map_err(|_| ConnectError::Malformed)?;
    if !connect.is_object() {
        return Err(ConnectError::Malformed);
    }
    let text = |name| {
        connect
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let authorized = match auth {
        Auth::None => true,
        Auth::Token(token) => equal_in_constant_time(text("auth_token"), token),
        Auth::UserPassword { user, password } => {
            equal_in_constant_time(text("user"), user)
                & equal_in_constant_time(text("pass"), password)
        }
    };
    if !authorized {
        return Err(ConnectError::Unauthorized);
    }
    let flag = |name, default| {
        connect
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    };
    let default = ClientOptions::default();
    let options = ClientOptions {
        verbose: flag("verbose", default.verbose),
        pedantic: flag("pedantic", default.pedantic),
        echo: flag("echo", default.echo),
        headers: flag("headers", default.headers),
        no_responders: flag("no_responders", default.no_responders),
    };
    if options.no_responders && !options.headers {
        return Err(ConnectError::HeadersRequired);
    }
    Ok(options)
}

/// Compares secrets in a time that depends only on their length.
fn equal_in_constant_time(presented: &str, expected: &str) -> bool {
    let differences = presented
        .bytes()
        .zip(expected.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    presented.len() == expected.len() && differences == 0
}
