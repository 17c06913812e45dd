//! Connecting with [`ConnectOptions`].

use std::time::Duration;

use async_nats::{ConnectErrorKind, Event};
use rand::RngExt;
use tokio::sync::watch;

use super::address::servers;
use super::auth::{options_with, read};
use super::{Bus, ConnectError, ConnectionState};
use crate::connect::{Auth, ConnectOptions, redact_userinfo};

/// Whether the first attempt to connect is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Forever,
}

/// Interval between pings. A connection is given up after three unanswered pings: well within the
/// 3 minutes of HOST-RESIL-010, and before a second heartbeat is lost.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// Capacity of a subscription; further messages are dropped and logged.
const SUBSCRIPTION_CAPACITY: usize = 8192;

/// First delay between two attempts to connect. It doubles up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(20);

/// Maximum delay between two attempts to connect: short enough to reconnect within 10 s of the
/// broker's return (HOST-RESIL-001).
const MAX_DELAY: Duration = Duration::from_secs(2);

pub(super) async fn connect(options: &ConnectOptions, retry: Retry) -> Result<Bus, ConnectError> {
    // If several crypto providers are linked in, rustls needs a default. The first one set wins.
    let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
    let (servers, userinfo) = servers(&options.servers)?;
    let auth = if options.auth == Auth::None {
        userinfo
    } else {
        options.auth.clone()
    };
    let (state_sender, state) = watch::channel(ConnectionState::default());
    let mut nats = options_with(auth)?
        .connection_timeout(options.connect_timeout)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .require_tls(options.tls_required || options.tls_first)
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            update(&state_sender, &event);
            std::future::ready(())
        });
    if let Some(name) = &options.name {
        nats = nats.name(name);
    }
    if let Some(prefix) = &options.inbox_prefix {
        nats = nats.custom_inbox_prefix(prefix);
    }
    if options.tls_first {
        nats = nats.tls_first();
    }
    nats = with_certificates(nats, options)?;
    if retry == Retry::Forever {
        nats = nats.retry_on_initial_connect();
    }
    let client = nats
        .connect(servers)
        .await
        .map_err(|error| connect_error(options, error))?;
    Ok(Bus { client, state })
}

fn connect_error(options: &ConnectOptions, error: async_nats::ConnectError) -> ConnectError {
    let servers = redact_userinfo(&options.servers.join(","));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => ConnectError::Unauthorized { servers },
        _ => ConnectError::Unreachable {
            servers,
            source: Box::new(error),
        },
    }
}

fn with_certificates(
    mut nats: async_nats::ConnectOptions,
    options: &ConnectOptions,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    if let Some(authorities) = &options.tls_ca_file {
        read(authorities)?;
        nats = nats.add_root_certificates(authorities.clone());
    }
    match (&options.tls_cert_file, &options.tls_key_file) {
        (None, None) => Ok(nats),
        (Some(certificate), Some(key)) => {
            read(certificate)?;
            read(key)?;
            Ok(nats.add_client_certificate(certificate.clone(), key.clone()))
        }
        _ => Err(ConnectError::IncompleteKeyPair),
    }
}

/// Returns the delay before an attempt, counted over all servers: exponential backoff, with jitter
/// so that a fleet does not reconnect all at once.
fn delay(attempt: usize) -> Duration {
    let Some(doublings) = attempt.checked_sub(2) else {
        return Duration::ZERO;
    };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let delay = MIN_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY);
    delay.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn update(state: &watch::Sender<ConnectionState>, event: &Event) {
    match event {
        Event::Connected => {
            state.send_modify(|state| {
                (state.connected, state.generation) = (true, state.generation + 1);
            });
            tracing::info!("connected to the broker");
        }
        Event::Disconnected => {
            state.send_modify(|state| state.connected = false);
            tracing::warn!("connection to the broker lost");
        }
        Event::Closed => state.send_modify(|state| state.connected = false),
        Event::SlowConsumer(_) => tracing::warn!("slow consumer: messages dropped"),
        other => tracing::warn!(event = %other, "NATS connection event"),
    }
}
