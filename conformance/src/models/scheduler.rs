//! The model scheduler: a minimal scheduler, written against the protocol alone, that shows that
//! checks can pass and can fail.
//!
//! It shares no code with the SDK or the reference scheduler. One loop ticks every few milliseconds
//! and advances all state; requests wait for their replies in tasks of their own. State that must
//! survive a restart is written before the scheduler acts on it.

mod dispatch;
mod fleet;
mod incarnation;
mod manifest_store;
mod mutant;
mod placement;
mod reconcile;
mod reply;
mod request;
mod state;
mod validation;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::manifest_store::ManifestStore;
pub use self::mutant::{Mutant, Variant};
use self::state::{Host, PersistedState, durations};
use crate::check::side::Side;
use crate::scheduler::target::{Access, Launch, Target};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::Profile;
use crate::wire::nats;
use crate::wire::nats::Bus;
use crate::wire::response::Headers;

/// Capacity of the channel for completed requests. Large, because all requests of a scheduler may
/// complete between two ticks.
const COMPLETED_MAX: usize = 4096;
/// Maximum time to write a request to the connection.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Options of a model scheduler.
#[derive(Clone, Debug)]
pub struct Options {
    /// URL of the broker, as `nats://HOST:PORT`.
    pub nats_url: String,
    /// Directory of the manifests.
    pub dir: PathBuf,
    /// Whether a workload runs only on hosts whose environment is its namespace.
    pub isolated: bool,
    /// Injected fault.
    pub mutant: Option<Mutant>,
    /// Conforming variant.
    pub variant: Option<Variant>,
}

/// Reason why the model scheduler ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The broker is unreachable or the connection is lost, and the mutant exits.
    #[error("the broker is unavailable")]
    Broker,
    /// The directory cannot be used.
    #[error("cannot access the directory")]
    Directory(#[source] std::io::Error),
    /// A start exceeds the maximum payload, and the mutant exits.
    #[error("a start request exceeds the maximum payload")]
    TooLarge,
}

/// Returns the timings that the model scheduler declares in a target file.
pub fn timings() -> Timings {
    let seconds = Duration::from_secs;
    Timings {
        act: seconds(4),
        show: seconds(4),
        register: seconds(3),
        poll: seconds(3),
        notice: seconds(6),
        silence: seconds(6),
        resend: seconds(4),
        retry: seconds(15),
        cleanup: seconds(6),
        reconnect: seconds(6),
        fence: seconds(12),
        exit: seconds(8),
    }
}

/// Returns a target that launches the model scheduler with additional arguments.
pub fn target(name: &str, program: &Path, arguments: &[&str]) -> Target {
    let mut command = vec![program.display().to_string()];
    let fixed = [
        "model-scheduler",
        "--nats-url",
        "{nats_url}",
        "--dir",
        "{dir}",
    ];
    command.extend(fixed.iter().chain(arguments).map(|text| (*text).to_owned()));
    command.extend(["--suite-pid".to_owned(), std::process::id().to_string()]);
    let launch = Launch {
        isolation_args: Some(vec!["--isolated".to_owned()]),
        ..Launch::new(command)
    };
    let profiles = Side::Scheduler.profiles().into_iter();
    Target {
        timings: timings(),
        profiles: profiles
            .filter(|profile| *profile != Profile::Kubernetes)
            .collect(),
        ..Target::new(name, Access::Launch(launch))
    }
}

/// Runs a model scheduler until `stop` is canceled.
///
/// # Errors
/// Returns an error if the directory cannot be used, or if the mutant exits.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ModelError> {
    let state_dir = options.dir.join(".berth");
    std::fs::create_dir_all(&state_dir).map_err(ModelError::Directory)?;
    let _lock = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        lock = acquire_leadership(&state_dir, options.mutant) => lock?,
    };
    let bus = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        bus = connect(&options) => bus?,
    };
    let (completions, mut completed_requests) = mpsc::channel(COMPLETED_MAX);
    let mut heartbeats = bus.heartbeats();
    let mut model = Model::new(options, bus, completions, &state_dir);
    model.publish_own_heartbeat().await;
    let mut tick = tokio::time::interval(durations::TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(completed) = completed_requests.recv() => model.on_request_completed(completed),
            heartbeat = heartbeats.recv() => match heartbeat {
                Ok(heartbeat) => model.on_heartbeat(&heartbeat),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(ModelError::Broker),
            },
            _ = tick.tick() => model.tick().await?,
        }
    }
    if model.is(Mutant::StopsAllOnExit) {
        model.stop_all().await;
    }
    Ok(())
}

/// Waits until no other instance holds the lock.
async fn acquire_leadership(
    state_dir: &Path,
    mutant: Option<Mutant>,
) -> Result<Option<Flock<File>>, ModelError> {
    if mutant == Some(Mutant::TwoLeaders) {
        return Ok(None);
    }
    loop {
        let file = File::create(state_dir.join(".lock")).map_err(ModelError::Directory)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err(_) => tokio::time::sleep(durations::SCAN_INTERVAL).await,
        }
    }
}

async fn connect(options: &Options) -> Result<Bus, ModelError> {
    loop {
        let token = format!("model{:08x}", rand::random::<u32>());
        match Bus::connect(&options.nats_url, &token).await {
            Ok(bus) => return Ok(bus),
            Err(_) if options.mutant == Some(Mutant::ExitsWithoutBroker) => {
                return Err(ModelError::Broker);
            }
            Err(_) => tokio::time::sleep(durations::SCAN_INTERVAL).await,
        }
    }
}

/// Purpose of a request, with the data that its completion needs.
#[derive(Clone, Debug)]
enum RequestKind {
    /// Start of a replica: its number and its id.
    Start(u64, String),
    /// Status of a replica: its number and its id.
    Status(u64, String),
    /// Stop of an id: the host and the id.
    Stop(String, String),
    /// Liveness probe.
    Probe,
}

/// Outcome of a request.
#[derive(Clone, Debug)]
enum Outcome {
    Reply(Bytes),
    NoResponders,
    TimedOut,
    NotSent,
    TooLarge,
}

/// A request that has ended, with or without a reply.
#[derive(Clone, Debug)]
struct CompletedRequest {
    kind: RequestKind,
    host: String,
    outcome: Outcome,
}

/// State of the scheduler.
struct Model {
    options: Options,
    bus: Bus,
    completions: mpsc::Sender<CompletedRequest>,
    now: Instant,
    connected: bool,
    connected_at: Instant,
    disconnected_at: Instant,
    /// Time at which a mass loss was most recently detected.
    mass_loss_at: Option<Instant>,
    /// Time at which all hosts were most recently probed because one had no responders.
    all_probed_at: Instant,
    hosts: BTreeMap<String, Host>,
    persisted: PersistedState,
    store: ManifestStore,
    /// Whether `persisted` has changes that are not on disk.
    dirty: bool,
    request_count: u64,
    fatal: Option<ModelError>,
    /// Commands that `Mutant::QueuesCommandsDuringOutage` sends after an outage.
    queued_commands: Vec<(String, String, String, RequestKind)>,
    /// Starts to send again: host, replica number, id and request.
    pending_resends: Vec<(String, u64, String, String)>,
}

impl Model {
    fn new(
        options: Options,
        bus: Bus,
        completions: mpsc::Sender<CompletedRequest>,
        state_dir: &Path,
    ) -> Model {
        let now = Instant::now();
        let mut model = Model {
            store: ManifestStore::new(&options.dir, state_dir),
            bus,
            completions,
            now,
            connected: true,
            connected_at: now,
            disconnected_at: now,
            mass_loss_at: None,
            all_probed_at: now,
            hosts: BTreeMap::new(),
            persisted: PersistedState::default(),
            dirty: false,
            request_count: 0,
            fatal: None,
            queued_commands: Vec::new(),
            pending_resends: Vec::new(),
            options,
        };
        model.load_state();
        model
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.options.mutant == Some(mutant)
    }

    fn has_variant(&self, variant: Variant) -> bool {
        self.options.variant == Some(variant)
    }

    async fn tick(&mut self) -> Result<(), ModelError> {
        self.now = Instant::now();
        self.update_connection().await;
        self.read_manifests();
        if self.store.has_scanned() {
            self.reconcile();
        }
        self.check_fleet().await;
        self.advance_replicas().await;
        self.send_stops().await;
        self.save_state();
        self.write_statuses();
        match self.fatal.take() {
            Some(fatal) => Err(fatal),
            None => Ok(()),
        }
    }

    async fn update_connection(&mut self) {
        let connected = self.bus.is_connected();
        if connected && !self.connected {
            self.connected_at = self.now;
            for host in self.hosts.values_mut() {
                host.heartbeat_since_connect = false;
                host.no_responders = None;
                host.in_mass_loss = false;
                host.last_seen_at = self.now;
            }
            if self.is(Mutant::OutageMeansLost)
                && self.now > self.disconnected_at + Duration::from_secs(60)
            {
                self.declare_all_lost();
            }
            self.connected = true;
            for (host, command, payload, kind) in std::mem::take(&mut self.queued_commands) {
                self.send(&host, &command, payload, kind).await;
            }
        }
        if !connected && self.connected {
            self.disconnected_at = self.now;
            if self.is(Mutant::ExitsOnOutage) {
                self.fatal = Some(ModelError::Broker);
            }
        }
        self.connected = connected;
    }

    /// Sends a request to a host; its outcome is passed to [`Model::on_request_completed`].
    ///
    /// Requests are sent in the order of the calls.
    async fn send(&mut self, host: &str, command: &str, payload: String, kind: RequestKind) {
        let reply_timeout = match kind {
            RequestKind::Start(..) if self.is(Mutant::ShortStartTimeout) => Duration::from_secs(3),
            RequestKind::Start(..) => durations::START_TIMEOUT,
            RequestKind::Stop(..) => durations::STOP_TIMEOUT,
            RequestKind::Status(..) | RequestKind::Probe => durations::REPLY_TIMEOUT,
        };
        let completed = |outcome| CompletedRequest {
            kind: kind.clone(),
            host: host.to_owned(),
            outcome,
        };
        if !self.connected {
            if self.is(Mutant::QueuesCommandsDuringOutage) && command != "workload.status" {
                let queued = (host.to_owned(), command.to_owned(), payload, kind.clone());
                self.queued_commands.push(queued);
            }
            let _ = self.completions.try_send(completed(Outcome::NotSent));
            return;
        }
        self.request_count += 1;
        let subject = nats::command_subject(&self.subject_token(host), command);
        let payload = Bytes::from(self.mutate_payload(payload));
        let (inbox, headers) = (format!("c{}", self.request_count), Headers::none());
        if payload.len() > self.bus.max_payload_bytes() {
            if self.is(Mutant::ExitsOnOversizedStart) {
                self.fatal = Some(ModelError::TooLarge);
            }
            let _ = self.completions.try_send(completed(Outcome::TooLarge));
            return;
        }
        let request = self.bus.request(&subject, &inbox, payload, &headers);
        let Ok(Ok(mut replies)) = tokio::time::timeout(SEND_TIMEOUT, request).await else {
            let _ = self.completions.try_send(completed(Outcome::NotSent));
            return;
        };
        let (completions, completed) = (self.completions.clone(), completed(Outcome::TimedOut));
        let wait = async move {
            let outcome = match replies.next(reply_timeout).await {
                None => Outcome::TimedOut,
                Some(delivery) if delivery.status == Some(503) => Outcome::NoResponders,
                Some(delivery) => Outcome::Reply(delivery.payload),
            };
            let _ = completions
                .send(CompletedRequest {
                    outcome,
                    ..completed
                })
                .await;
        };
        if self.is(Mutant::OneRequestAtATime) {
            wait.await;
        } else {
            tokio::spawn(wait);
        }
    }

    /// Returns the token that addresses a host in subjects.
    fn subject_token(&self, host: &str) -> String {
        let friendly_name = |host: &Host| {
            let name = host.heartbeat.get("friendlyName")?.as_str()?;
            Some(name.to_owned())
        };
        let name = if self.is(Mutant::AddressesHostsByFriendlyName) {
            self.hosts.get(host).and_then(friendly_name)
        } else {
            None
        };
        name.unwrap_or_else(|| host.to_owned())
    }

    /// Applies the mutant to a payload.
    fn mutate_payload(&self, payload: String) -> String {
        match self.options.mutant {
            Some(Mutant::WritesUnknownField) => {
                payload.replacen('{', "{\"scheduler\":\"model\",", 1)
            }
            Some(Mutant::WritesProtoNames) => payload.replace("\"workloadId\"", "\"workload_id\""),
            Some(Mutant::WritesNull) => {
                payload.replace("\"workload\":{", "\"workload\":{\"service\":null,")
            }
            Some(Mutant::WritesTrailingBytes) => payload + "\n{}",
            _ => payload,
        }
    }

    async fn publish_own_heartbeat(&mut self) {
        if self.is(Mutant::PublishesOwnHeartbeat) {
            let subject = nats::heartbeat_subject("scheduler");
            // If this fails, the self test reports that the mutant survived.
            let _ = self
                .bus
                .publish(&subject, Bytes::from_static(b"{}"), &Headers::none())
                .await;
        }
    }

    async fn stop_all(&mut self) {
        let running: Vec<(String, String)> = self
            .persisted
            .replicas
            .iter()
            .filter_map(|replica| Some((replica.host.clone()?, replica.id.clone()?)))
            .collect();
        for (host, id) in running {
            let payload = serde_json::json!({ "workloadId": id }).to_string();
            self.send(
                &host,
                "workload.stop",
                payload,
                RequestKind::Stop(host.clone(), id),
            )
            .await;
        }
    }
}
