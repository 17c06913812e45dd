//! The model host: a minimal host, written against the protocol alone, that shows that checks can
//! pass and can fail.
//!
//! It shares no code with the SDK or the reference host. Its guests are scripts ([`script`]), which
//! it pulls from an OCI registry like any image. The selftest declares the script for each role as
//! an image of the model host. A [`Mutant`] gives it exactly one fault. A [`Variant`] changes its
//! behavior within the specification.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub mod command;
pub mod decode;
pub mod encode;
pub mod heartbeat;
pub mod image;
pub mod mutant;
pub mod nats;
pub mod script;
pub mod service;
mod unreadable;
pub mod workload;

use self::command::{CommandHandler, Reply};
use self::heartbeat::Identity;
pub use self::mutant::{Mutant, Variant};
use self::nats::{Connection, Message};
use self::workload::State;

/// Interval between heartbeats. Short, so that the suite observes several in a run.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Delay between two attempts to connect to the broker.
const RECONNECT_DELAY: Duration = Duration::from_millis(250);
/// Maximum time for requests in flight to finish after a signal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// Id of the subscription to commands on each connection.
const COMMANDS_SID: u32 = 1;

/// Options of a model host.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// URL of the broker, as `nats://HOST:PORT`.
    pub nats_url: String,
    /// Host id; random if absent.
    pub host_id: Option<String>,
    /// Injected fault.
    pub mutant: Option<Mutant>,
    /// Conforming variant.
    pub variant: Option<Variant>,
}

/// Reason why the model host ended without a signal.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The broker was unreachable for 60 s; only `Mutant::GivesUpReconnecting` returns this error.
    #[error("cannot reach the broker: gave up after 60 s")]
    BrokerUnreachable,
}

/// Runs a model host until `shutdown` is canceled; then unsubscribes, drains and returns.
///
/// # Errors
/// Returns [`ModelError`] if the mutant gives up reconnecting.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), ModelError> {
    let host = Arc::new(Host::new(&options));
    let heartbeats = tokio::spawn(Arc::clone(&host).run_heartbeats(shutdown.clone()));
    let outcome = host.run_connections(&shutdown).await;
    if outcome.is_ok() {
        host.shut_down().await;
    }
    heartbeats.abort();
    outcome
}

struct Host {
    authority: String,
    identity: Identity,
    commands: Arc<CommandHandler>,
    bus: nats::Writer,
    tasks: TaskTracker,
    heartbeat_due: Notify,
    heartbeat_count: AtomicU64,
    missed_heartbeats: AtomicU64,
    hung: AtomicBool,
    seen_requests: Mutex<HashSet<(String, bytes::Bytes)>>,
}

impl Host {
    fn new(options: &Options) -> Self {
        let (mutant, variant) = (options.mutant, options.variant);
        let random_id = || format!("model-{:016x}", rand::random::<u64>());
        let mut id = options.host_id.clone().unwrap_or_else(random_id);
        if mutant == Some(Mutant::HostIdWithDot) {
            id.push_str(".x");
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let started_at = crate::wire::timestamp::rfc3339_ms(now.as_millis());
        Self {
            authority: options.nats_url.trim_start_matches("nats://").to_owned(),
            identity: Identity {
                id,
                started_at,
                mutant,
                variant,
            },
            commands: Arc::new(CommandHandler::new(encode::Encoder { mutant, variant })),
            bus: nats::Writer::default(),
            tasks: TaskTracker::new(),
            heartbeat_due: Notify::new(),
            heartbeat_count: AtomicU64::new(0),
            missed_heartbeats: AtomicU64::new(0),
            hung: AtomicBool::new(false),
            seen_requests: Mutex::default(),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.identity.mutant == Some(mutant)
    }

    /// Connects, serves and reconnects until `shutdown` is canceled.
    async fn run_connections(
        self: &Arc<Self>,
        shutdown: &CancellationToken,
    ) -> Result<(), ModelError> {
        let mut unreachable_since = None;
        let mut is_first_connection = true;
        while !shutdown.is_cancelled() {
            let sends_pings = !self.is(Mutant::NeverPings);
            let Ok(connection) = nats::connect(&self.authority, sends_pings, &self.bus).await
            else {
                let since = *unreachable_since.get_or_insert_with(Instant::now);
                if self.is(Mutant::GivesUpReconnecting) && since.elapsed().as_secs() >= 60 {
                    return Err(ModelError::BrokerUnreachable);
                }
                let _ = shutdown.run_until_cancelled(sleep(RECONNECT_DELAY)).await;
                continue;
            };
            unreachable_since = None;
            self.subscribe_and_announce(std::mem::take(&mut is_first_connection))
                .await;
            let _ = shutdown
                .run_until_cancelled(self.serve_connection(connection))
                .await;
            if !shutdown.is_cancelled() {
                self.bus.replace(None).await;
                if self.is(Mutant::OutageStopsWorkloads) {
                    self.commands.workloads.clear();
                }
            }
        }
        Ok(())
    }

    /// Subscribes to the commands, and then triggers a heartbeat. Mutants change or omit a step.
    async fn subscribe_and_announce(self: &Arc<Self>, is_first_connection: bool) {
        if is_first_connection && self.is(Mutant::HeartbeatBeforeSubscribing) {
            self.publish_heartbeat().await;
            sleep(Duration::from_millis(300)).await;
        }
        if is_first_connection || !self.is(Mutant::NoResubscribe) {
            let id = if self.is(Mutant::SubscribesToAllHosts) {
                "*"
            } else {
                &self.identity.id
            };
            let subject = crate::wire::nats::command_subject(id, ">");
            if let Err(error) = self.bus.subscribe(&subject, COMMANDS_SID).await {
                tracing::warn!(%error, "cannot subscribe");
            }
        }
        if is_first_connection && self.is(Mutant::LateFirstHeartbeat) {
            let host = Arc::clone(self);
            tokio::spawn(async move {
                sleep(Duration::from_secs(9)).await;
                host.heartbeat_due.notify_one();
            });
        } else if is_first_connection || !self.is(Mutant::NoHeartbeatAfterReconnect) {
            self.heartbeat_due.notify_one();
        }
        if !is_first_connection && self.is(Mutant::BurstAfterOutage) {
            for _ in 0..self.missed_heartbeats.swap(0, Ordering::Relaxed).max(3) {
                self.publish_heartbeat().await;
            }
        }
    }

    async fn serve_connection(self: &Arc<Self>, mut connection: Connection) {
        while let Ok(message) = connection.next(&self.bus).await {
            if self.hung.load(Ordering::Relaxed) || self.decide_drop(&message) {
                continue;
            }
            let work = Arc::clone(self).handle(message);
            if self.is(Mutant::OneCommandAtATime) {
                work.await;
            } else {
                self.tasks.spawn(work);
            }
        }
    }

    /// Returns whether the mutant drops `message`, and records the message so that duplicates are
    /// found.
    fn decide_drop(&self, message: &Message) -> bool {
        match self.identity.mutant {
            Some(Mutant::IgnoresRequestsWithoutReply) => message.reply_to.is_none(),
            Some(Mutant::DropsRequestsUnderLoad) => self.tasks.len() > 20,
            Some(Mutant::DropsDuplicateRequests) => {
                let key = (
                    message.reply_to.clone().unwrap_or_default(),
                    message.payload.clone(),
                );
                !self
                    .seen_requests
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key)
            }
            _ => false,
        }
    }

    async fn handle(self: Arc<Self>, message: Message) {
        if self.identity.variant == Some(Variant::SlowWithinDeadlines) {
            sleep(Duration::from_millis(1500)).await;
        }
        if self.is(Mutant::CredentialInLog) {
            tracing::info!(payload = %String::from_utf8_lossy(&message.payload), "request");
        }
        let nesting = message
            .payload
            .iter()
            .filter(|byte| matches!(byte, b'[' | b'{'))
            .count();
        if self.is(Mutant::HangsOnDeepNesting) && nesting > 500 {
            self.hung.store(true, Ordering::Relaxed);
            return;
        }
        let command = message.subject.splitn(4, '.').nth(3).unwrap_or_default();
        let command = command
            .strip_prefix("x.")
            .filter(|_| self.is(Mutant::HostIdWithDot))
            .unwrap_or(command);
        let reply = if command == "heartbeat" {
            self.heartbeat_reply(&message)
        } else if message.has_headers && self.is(Mutant::RejectsHeaders) {
            Some(
                self.commands
                    .error_reply(400, "", "headers are not supported"),
            )
        } else {
            self.commands.handle(command, &message.payload).await
        };
        while self.is(Mutant::OneCommandAtATime) && self.commands.workloads.has_starting() {
            sleep(Duration::from_millis(50)).await;
        }
        if let (Some(reply), Some(subject)) = (reply, message.reply_to.as_deref()) {
            self.send_reply(subject, &reply).await;
        }
    }

    fn heartbeat_reply(&self, message: &Message) -> Option<Reply> {
        let is_json = serde_json::from_slice::<serde_json::Value>(&message.payload).is_ok();
        if self.is(Mutant::HeartbeatRequestRequiresJson) && !is_json {
            return Some(
                self.commands
                    .error_reply(400, "", "the payload is not JSON"),
            );
        }
        Some(Reply {
            body: self.next_heartbeat(),
            error: None,
        })
    }

    async fn send_reply(&self, subject: &str, reply: &Reply) {
        let mut headers = Vec::new();
        if let Some((code, message)) = &reply.error {
            headers.push(("Nats-Service-Error-Code".to_owned(), code.to_string()));
            headers.push(("Nats-Service-Error".to_owned(), message.clone()));
        }
        if self.identity.variant == Some(Variant::ExtraHeaders) {
            headers.push(("X-Model".to_owned(), "yes".to_owned()));
        }
        let payload = self.commands.encoder.encode(reply.body.clone());
        let copies = if self.is(Mutant::DoubleReply) { 2 } else { 1 };
        for _ in 0..copies {
            if let Err(error) = self.bus.publish(subject, &headers, &payload).await {
                tracing::warn!(%error, "cannot reply");
            }
        }
    }

    fn next_heartbeat(&self) -> serde_json::Value {
        let count = self.heartbeat_count.fetch_add(1, Ordering::Relaxed);
        self.identity
            .heartbeat(count, self.commands.workloads.active_count())
    }

    async fn publish_heartbeat(&self) {
        let mut heartbeat = self.next_heartbeat();
        if self.is(Mutant::WrappedHeartbeat) {
            heartbeat = serde_json::json!({ "heartbeat": heartbeat });
        }
        let payload = self.commands.encoder.encode(heartbeat);
        let headers = match self.identity.variant {
            Some(Variant::ExtraHeaders) => vec![("X-Model".to_owned(), "yes".to_owned())],
            _ => Vec::new(),
        };
        let subject = crate::wire::nats::heartbeat_subject(&self.identity.id);
        if self
            .bus
            .publish(&subject, &headers, &payload)
            .await
            .is_err()
        {
            self.missed_heartbeats.fetch_add(1, Ordering::Relaxed);
        }
        if self.is(Mutant::PublishesOnForeignSubject) {
            let subject = crate::wire::nats::heartbeat_subject("another-host");
            let _ = self.bus.publish(&subject, &headers, &payload).await;
        }
    }

    /// Publishes heartbeats until the host shuts down.
    async fn run_heartbeats(self: Arc<Self>, shutdown: CancellationToken) {
        let interval = match (self.identity.mutant, self.identity.variant) {
            (Some(Mutant::InfrequentHeartbeats), _) => Duration::from_secs(40),
            (_, Some(Variant::FrequentHeartbeats)) => Duration::from_millis(1500),
            _ => HEARTBEAT_INTERVAL,
        };
        // This mutant waits for the late notification, because the interval would trigger the first
        // heartbeat in time.
        if self.is(Mutant::LateFirstHeartbeat) {
            self.heartbeat_due.notified().await;
            self.publish_heartbeat().await;
        }
        while !shutdown.is_cancelled() {
            let _ = timeout(interval, self.heartbeat_due.notified()).await;
            if shutdown.is_cancelled() || self.hung.load(Ordering::Relaxed) {
                return;
            }
            if self.is(Mutant::NoHeartbeatsDuringStart) && self.commands.workloads.has_starting() {
                continue;
            }
            let burst = if self.is(Mutant::HeartbeatBurst) {
                3
            } else {
                1
            };
            for _ in 0..burst {
                self.publish_heartbeat().await;
            }
        }
    }

    /// Unsubscribes, waits for the requests in flight, and stops the workloads.
    async fn shut_down(&self) {
        if self.is(Mutant::UnsubscribesLast) {
            self.commands.workloads.clear();
            sleep(Duration::from_secs(3)).await;
        }
        if let Err(error) = self.bus.unsubscribe(COMMANDS_SID).await {
            tracing::debug!(%error, "cannot unsubscribe");
        }
        self.tasks.close();
        if self.is(Mutant::HeartbeatAfterShutdown) {
            self.publish_heartbeat().await;
        }
        if self.is(Mutant::DropsRequestsOnShutdown) {
            self.bus.replace(None).await;
        } else {
            let _ = timeout(DRAIN_TIMEOUT, self.tasks.wait()).await;
        }
        if self.is(Mutant::LeavesGuestsBehind) {
            self.leave_guests_behind();
        }
        self.commands.workloads.clear();
    }

    fn leave_guests_behind(&self) {
        self.commands.workloads.for_each(|_, entry| {
            let environment = entry
                .workload
                .pointer("/service/localResources/environment");
            // The first variable is `HOST:PORT/TOKEN`, the endpoint of the guest's beacons.
            let beacon = environment.and_then(|map| map.as_object()?.values().next()?.as_str());
            if let (Some(beacon), State::Running, Ok(exe)) =
                (beacon, entry.state, std::env::current_exe())
            {
                let guest = std::process::Command::new(exe)
                    .args(["model-guest", beacon])
                    .spawn();
                tracing::info!(left_behind = guest.is_ok());
            }
        });
    }
}

/// Runs a guest that a host left behind: sends beacons for 10 s.
pub async fn run_leftover_guest(beacon: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        script::send(Some(beacon), "ping").await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Cancels `shutdown` on SIGTERM and SIGINT, unless the mutant ignores signals.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub fn cancel_on_signal(
    mutant: Option<Mutant>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if mutant != Some(Mutant::IgnoresSigterm) {
                shutdown.cancel();
            }
        }
    });
    Ok(())
}
