//! Connecting with [`ConnectOptions`].

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ClientError, ConnectErrorKind, Event, ServerAddr};
use rand::RngExt;
use tokio::sync::watch;

use super::address::servers;
use super::attempt::Attempts;
use super::auth::{effective, options_with};
use super::{Bus, ConnectError, ConnectionState};
use crate::connect::{ConnectOptions, redact_userinfo};

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
    let (servers, userinfo) = servers(&options.servers)?;
    let requires_tls = options.requires_tls() || servers.iter().any(ServerAddr::tls_required);
    let auth = effective(options.auth.clone(), &userinfo);
    let attempts = Arc::new(Attempts::new(options, &auth, servers.clone()));
    let (failed, unresolved) = (attempts.clone(), attempts.clone());
    let (state_sender, state) = watch::channel(ConnectionState::default());
    let mut nats = options_with(auth, userinfo)?
        .connection_timeout(options.connect_timeout)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .require_tls(requires_tls)
        .reconnect_delay_callback(delay)
        // Chooses no server; only here, the client tells why the previous attempts failed.
        .reconnect_to_server_callback(move |pool, _| {
            failed.log_failures(&pool);
            std::future::ready(None)
        })
        .event_callback(move |event| {
            update(&state_sender, &event);
            let unresolved = is_unresolved(&event).then(|| unresolved.clone());
            async move {
                if let Some(attempts) = unresolved {
                    attempts.log_unresolved().await;
                }
            }
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
    options.check_tls_files()?;
    // The client reads the files again for each connection, so that they can be rotated.
    if let Some(authorities) = &options.tls_ca_file {
        nats = nats.add_root_certificates(authorities.clone());
    }
    if let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) {
        nats = nats.add_client_certificate(certificate.clone(), key.clone());
    }
    if retry == Retry::Forever {
        nats = nats.retry_on_initial_connect();
    }
    let client = nats
        .connect(servers)
        .await
        .map_err(|error| connect_error(options, &attempts, &error))?;
    Ok(Bus { client, state })
}

fn connect_error(
    options: &ConnectOptions,
    attempts: &Attempts,
    error: &async_nats::ConnectError,
) -> ConnectError {
    let servers = redact_userinfo(&options.servers.join(","));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => ConnectError::Unauthorized {
            servers,
            credentials: attempts.credentials().to_owned(),
        },
        _ => ConnectError::Unreachable {
            servers,
            source: attempts.explain(&error.to_string()).into(),
        },
    }
}

/// Returns whether no name of a server could be resolved, which the client tells without the cause.
fn is_unresolved(event: &Event) -> bool {
    let kind = ConnectErrorKind::Dns.to_string();
    matches!(event, Event::ClientError(ClientError::Other(error)) if *error == kind)
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
        // [`Attempts`] logs the reason.
        Event::ClientError(ClientError::Other(kind)) => tracing::debug!(kind, "cannot connect"),
        Event::SlowConsumer(_) => tracing::warn!("slow consumer: messages dropped"),
        other => tracing::warn!(event = %other, "NATS connection event"),
    }
}
