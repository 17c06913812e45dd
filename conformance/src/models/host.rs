//! The model host: a small host written against the wire, to prove that checks can pass and can fail.
//!
//! It shares no code with the SDK or the reference host. Its guests are scripts ([`program`]) that it
//! pulls from an OCI registry like any image; a target brings them by role. With a [`Mutant`] it is
//! wrong in exactly one way, with a [`Variant`] it differs in a way that the specification allows.

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
pub mod workload;

use self::command::{Commands, Reply};
use self::heartbeat::Identity;
pub use self::mutant::{Mutant, Variant};
use self::nats::{Connection, Message};
use self::workload::State;

/// The pace of heartbeats; short, so that the suite sees several in a run.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Between two attempts to reach the broker.
const RECONNECT_AFTER: Duration = Duration::from_millis(250);
/// How long requests that were accepted may take to be answered after a signal.
const DRAIN: Duration = Duration::from_secs(8);
/// The subscription to the commands.
const COMMANDS_SID: u32 = 1;

/// How to run a model host.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `nats://HOST:PORT`.
    pub nats_url: String,
    /// The host id; made up when absent.
    pub host_id: Option<String>,
    /// The deliberate fault.
    pub mutant: Option<Mutant>,
    /// The legal difference.
    pub variant: Option<Variant>,
}

/// The model host ended otherwise than by its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Only of the mutant that gives up.
    #[error("the broker stayed away")]
    GaveUp,
}

/// Serves until `shutdown` is cancelled, then unsubscribes, drains and ends.
///
/// # Errors
/// [`ModelError`], of one mutant only.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), ModelError> {
    let host = Arc::new(Host::new(&options));
    let beats = tokio::spawn(Arc::clone(&host).beat(shutdown.clone()));
    let outcome = host.sessions(&shutdown).await;
    if outcome.is_ok() {
        host.shut_down().await;
    }
    beats.abort();
    outcome
}

struct Host {
    authority: String,
    identity: Identity,
    commands: Arc<Commands>,
    bus: nats::Writer,
    tasks: TaskTracker,
    beat_now: Notify,
    beats: AtomicU64,
    missed: AtomicU64,
    dead: AtomicBool,
    seen: Mutex<HashSet<(String, bytes::Bytes)>>,
}

impl Host {
    fn new(options: &Options) -> Self {
        let (mutant, variant) = (options.mutant, options.variant);
        let made_up = || format!("model-{:016x}", rand::random::<u64>());
        let mut id = options.host_id.clone().unwrap_or_else(made_up);
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
            commands: Arc::new(Commands::new(encode::Writer { mutant, variant })),
            bus: nats::Writer::default(),
            tasks: TaskTracker::new(),
            beat_now: Notify::new(),
            beats: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.identity.mutant == Some(mutant)
    }

    /// Connects, serves, and connects again, until the shutdown.
    async fn sessions(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), ModelError> {
        let mut lost_at = None;
        let mut first = true;
        while !shutdown.is_cancelled() {
            let pings = !self.is(Mutant::NeverPings);
            let Ok(connection) = nats::connect(&self.authority, pings, &self.bus).await else {
                let since = *lost_at.get_or_insert_with(Instant::now);
                if self.is(Mutant::GivesUpReconnecting) && since.elapsed().as_secs() >= 60 {
                    return Err(ModelError::GaveUp);
                }
                let _ = shutdown.run_until_cancelled(sleep(RECONNECT_AFTER)).await;
                continue;
            };
            lost_at = None;
            self.greet(std::mem::take(&mut first)).await;
            let _ = shutdown.run_until_cancelled(self.session(connection)).await;
            if !shutdown.is_cancelled() {
                self.bus.replace(None).await;
                if self.is(Mutant::OutageStopsWorkloads) {
                    self.commands.table.clear();
                }
            }
        }
        Ok(())
    }

    /// Subscribes and says hello, in the order that the fault of the host leaves.
    async fn greet(self: &Arc<Self>, first: bool) {
        if first && self.is(Mutant::HeartbeatBeforeSubscribing) {
            self.publish_heartbeat().await;
            sleep(Duration::from_millis(300)).await;
        }
        if first || !self.is(Mutant::NoResubscribe) {
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
        if first && self.is(Mutant::LateFirstHeartbeat) {
            let host = Arc::clone(self);
            tokio::spawn(async move {
                sleep(Duration::from_secs(9)).await;
                host.beat_now.notify_one();
            });
        } else if first || !self.is(Mutant::NoHeartbeatAfterReconnect) {
            self.beat_now.notify_one();
        }
        if !first && self.is(Mutant::BurstAfterOutage) {
            for _ in 0..self.missed.swap(0, Ordering::Relaxed).max(3) {
                self.publish_heartbeat().await;
            }
        }
    }

    async fn session(self: &Arc<Self>, mut connection: Connection) {
        while let Ok(message) = connection.next(&self.bus).await {
            if self.dead.load(Ordering::Relaxed) || self.dropped(&message) {
                continue;
            }
            let work = Arc::clone(self).serve(message);
            if self.is(Mutant::OneCommandAtATime) {
                work.await;
            } else {
                self.tasks.spawn(work);
            }
        }
    }

    /// Whether a fault of the host makes it overlook a message.
    fn dropped(&self, message: &Message) -> bool {
        match self.identity.mutant {
            Some(Mutant::IgnoresRequestsWithoutReply) => message.reply.is_none(),
            Some(Mutant::DropsUnderLoad) => self.tasks.len() > 20,
            Some(Mutant::AnswersDuplicatesOnce) => {
                let key = (
                    message.reply.clone().unwrap_or_default(),
                    message.payload.clone(),
                );
                !self
                    .seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key)
            }
            _ => false,
        }
    }

    async fn serve(self: Arc<Self>, message: Message) {
        if self.identity.variant == Some(Variant::SlowButInTime) {
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
        if self.is(Mutant::DiesOfDeepNesting) && nesting > 500 {
            self.dead.store(true, Ordering::Relaxed);
            return;
        }
        let command = message.subject.splitn(4, '.').nth(3).unwrap_or_default();
        let command = command
            .strip_prefix("x.")
            .filter(|_| self.is(Mutant::HostIdWithDot))
            .unwrap_or(command);
        let reply = if command == "heartbeat" {
            self.answer_heartbeat(&message)
        } else if message.has_headers && self.is(Mutant::RejectsHeaders) {
            Some(self.commands.refusal(400, "", "headers are not supported"))
        } else {
            self.commands.answer(command, &message.payload).await
        };
        while self.is(Mutant::OneCommandAtATime) && self.commands.table.starting() {
            sleep(Duration::from_millis(50)).await;
        }
        if let (Some(reply), Some(to)) = (reply, message.reply.as_deref()) {
            self.send_reply(to, &reply).await;
        }
    }

    fn answer_heartbeat(&self, message: &Message) -> Option<Reply> {
        let json = serde_json::from_slice::<serde_json::Value>(&message.payload).is_ok();
        if self.is(Mutant::HeartbeatRequestWantsJson) && !json {
            return Some(self.commands.refusal(400, "", "not JSON"));
        }
        Some(Reply {
            body: self.next_heartbeat(),
            error: None,
        })
    }

    async fn send_reply(&self, to: &str, reply: &Reply) {
        let mut headers = Vec::new();
        if let Some((code, words)) = &reply.error {
            headers.push(("Nats-Service-Error-Code".to_owned(), code.to_string()));
            headers.push(("Nats-Service-Error".to_owned(), words.clone()));
        }
        if self.identity.variant == Some(Variant::ReplyHeaders) {
            headers.push(("X-Model".to_owned(), "yes".to_owned()));
        }
        let payload = self.commands.writer.write(reply.body.clone());
        let times = if self.is(Mutant::DoubleReply) { 2 } else { 1 };
        for _ in 0..times {
            if let Err(error) = self.bus.publish(to, &headers, &payload).await {
                tracing::warn!(%error, "cannot reply");
            }
        }
    }

    fn next_heartbeat(&self) -> serde_json::Value {
        let count = self.beats.fetch_add(1, Ordering::Relaxed);
        self.identity.heartbeat(count, self.commands.table.live())
    }

    async fn publish_heartbeat(&self) {
        let mut heartbeat = self.next_heartbeat();
        if self.is(Mutant::WrappedHeartbeat) {
            heartbeat = serde_json::json!({ "heartbeat": heartbeat });
        }
        let payload = self.commands.writer.write(heartbeat);
        let headers = match self.identity.variant {
            Some(Variant::ReplyHeaders) => vec![("X-Model".to_owned(), "yes".to_owned())],
            _ => Vec::new(),
        };
        let subject = crate::wire::nats::heartbeat_subject(&self.identity.id);
        if self
            .bus
            .publish(&subject, &headers, &payload)
            .await
            .is_err()
        {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        if self.is(Mutant::PublishesOnForeignSubject) {
            let subject = crate::wire::nats::heartbeat_subject("another-host");
            let _ = self.bus.publish(&subject, &headers, &payload).await;
        }
    }

    /// Publishes heartbeats until it is aborted.
    async fn beat(self: Arc<Self>, shutdown: CancellationToken) {
        let every = match (self.identity.mutant, self.identity.variant) {
            (Some(Mutant::RareHeartbeats), _) => Duration::from_secs(40),
            (_, Some(Variant::MoreHeartbeats)) => Duration::from_millis(1500),
            _ => HEARTBEAT_EVERY,
        };
        // A host that says hello late must not have its ticks say it in time.
        if self.is(Mutant::LateFirstHeartbeat) {
            self.beat_now.notified().await;
            self.publish_heartbeat().await;
        }
        while !shutdown.is_cancelled() {
            let _ = timeout(every, self.beat_now.notified()).await;
            if shutdown.is_cancelled() || self.dead.load(Ordering::Relaxed) {
                return;
            }
            if self.is(Mutant::NoHeartbeatsDuringStart) && self.commands.table.starting() {
                continue;
            }
            let times = if self.is(Mutant::HeartbeatBurst) {
                3
            } else {
                1
            };
            for _ in 0..times {
                self.publish_heartbeat().await;
            }
        }
    }

    /// Ends the subscription first, then answers what was accepted, then ends the workloads.
    async fn shut_down(&self) {
        if self.is(Mutant::UnsubscribesLast) {
            self.commands.table.clear();
            sleep(Duration::from_secs(3)).await;
        }
        if let Err(error) = self.bus.unsubscribe(COMMANDS_SID).await {
            tracing::debug!(%error, "no connection to unsubscribe from");
        }
        self.tasks.close();
        if self.is(Mutant::HeartbeatAfterShutdown) {
            self.publish_heartbeat().await;
        }
        if self.is(Mutant::DropsRequestsOnShutdown) {
            self.bus.replace(None).await;
        } else {
            let _ = timeout(DRAIN, self.tasks.wait()).await;
        }
        if self.is(Mutant::LeavesGuestsBehind) {
            self.leave_guests_behind();
        }
        self.commands.table.clear();
    }

    fn leave_guests_behind(&self) {
        self.commands.table.each(|_, entry| {
            let environment = entry
                .workload
                .pointer("/service/localResources/environment");
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

/// What a guest that was left behind does: beats for some seconds, then ends.
pub async fn guest(beacon: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        script::send(Some(beacon), "beat").await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Cancels `shutdown` at SIGTERM and SIGINT, unless the fault of the host is not to.
///
/// # Errors
/// The handlers cannot be installed.
pub fn heed_signals(mutant: Option<Mutant>, shutdown: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if mutant != Some(Mutant::IgnoresSigterm) {
                shutdown.cancel();
            }
        }
    });
    Ok(())
}
