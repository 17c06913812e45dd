//! Turns [`ConnectOptions`] into a connection.

use std::time::Duration;

use async_nats::{ConnectErrorKind, Event};
use rand::RngExt;
use tokio::sync::watch;

use super::address::servers;
use super::auth::{options_with, read};
use super::{Bus, ConnectError, Link};
use crate::connect::{Auth, ConnectOptions, without_userinfo};

/// How long to go on trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Now,
    ForEver,
}

/// How often the connection is tested. A dead one is given up after three of them: well inside the
/// 3 minutes of HOST-RESIL-010, and before a second heartbeat is lost in it.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// Messages that may wait for the code behind one subscription; more are dropped, and said so.
const SUBSCRIPTION_CAPACITY: usize = 8192;

/// The first delay between two attempts to connect; it doubles up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(20);

/// Short enough to be back within 10 s of the broker's return (HOST-RESIL-001).
const MAX_DELAY: Duration = Duration::from_secs(2);

pub(super) async fn open(
    options: &ConnectOptions,
    patience: Patience,
) -> Result<Bus, ConnectError> {
    // Two crypto providers may be linked in, and then rustls asks which. An earlier choice stands.
    let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
    let (servers, userinfo) = servers(&options.servers)?;
    let auth = if options.auth == Auth::None {
        userinfo
    } else {
        options.auth.clone()
    };
    let (link_sender, link) = watch::channel(Link::default());
    let mut nats = options_with(auth)?
        .connection_timeout(options.connect_timeout)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .require_tls(options.tls_required || options.tls_first)
        .reconnect_delay_callback(delay)
        .event_callback(move |event| {
            note(&link_sender, &event);
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
    if patience == Patience::ForEver {
        nats = nats.retry_on_initial_connect();
    }
    let client = nats
        .connect(servers)
        .await
        .map_err(|error| refusal(options, error))?;
    Ok(Bus { client, link })
}

fn refusal(options: &ConnectOptions, error: async_nats::ConnectError) -> ConnectError {
    let servers = without_userinfo(&options.servers.join(","));
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => ConnectError::Refused { servers },
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
        _ => Err(ConnectError::HalfAPair),
    }
}

/// Before attempt number `attempt`, counted over all servers: doubling, with jitter so that a fleet does
/// not come back in one moment.
fn delay(attempt: usize) -> Duration {
    let Some(doublings) = attempt.checked_sub(2) else {
        return Duration::ZERO;
    };
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(16);
    let delay = MIN_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY);
    delay.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn note(link: &watch::Sender<Link>, event: &Event) {
    match event {
        Event::Connected => {
            link.send_modify(|link| (link.connected, link.connects) = (true, link.connects + 1));
            tracing::info!("connected to the broker");
        }
        Event::Disconnected => {
            link.send_modify(|link| link.connected = false);
            tracing::warn!("the connection to the broker is gone");
        }
        Event::Closed => link.send_modify(|link| link.connected = false),
        Event::SlowConsumer(_) => tracing::warn!("messages were dropped: too many wait"),
        other => tracing::warn!(event = %other, "the broker or the connection to it has trouble"),
    }
}
