//! The model scheduler: a small scheduler written against the wire, to prove that checks can pass and can fail.
//!
//! It shares no code with the SDK or the reference scheduler. One loop looks at everything every few
//! milliseconds and does what is due; calls wait for their answers in tasks of their own. What it must know
//! after its end it writes down before it acts.

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

pub use self::mutant::{Mutant, Variant};

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
use self::state::{Host, Kept, times};
use crate::check::side::Side;
use crate::scheduler::target::{Access, Launch, Target};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::Profile;
use crate::wire::nats;
use crate::wire::nats::Bus;
use crate::wire::response::Headers;

/// Answers that wait for the loop.
const ANSWERS: usize = 4096;
/// How long the connection may take to take something.
const SEND_WITHIN: Duration = Duration::from_millis(500);

/// How to run it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub nats_url: String,
    /// The directory of the manifests.
    pub dir: PathBuf,
    /// Hosts are not shared between environments.
    pub isolated: bool,
    /// The fault.
    pub mutant: Option<Mutant>,
    /// The difference.
    pub variant: Option<Variant>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The broker is not there, and a mutant does not wait for it.
    #[error("the broker is gone")]
    Broker,
    /// The directory cannot be used.
    #[error("the directory cannot be used")]
    Directory(#[source] std::io::Error),
    /// A start was larger than the broker takes, and a mutant does not survive that.
    #[error("a start is too large")]
    TooLarge,
}

/// What it keeps to, as a target file would declare it.
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

/// The model as a target: a subcommand of this program, with arguments such as `--mutant NAME`.
pub fn target(name: &str, program: &Path, more: &[&str]) -> Target {
    let mut command = vec![program.display().to_string()];
    let words = [
        "model-scheduler",
        "--nats-url",
        "{nats_url}",
        "--dir",
        "{dir}",
    ];
    command.extend(words.iter().chain(more).map(|word| (*word).to_owned()));
    command.extend(["--suite".to_owned(), std::process::id().to_string()]);
    let launch = Launch {
        isolated: Some(vec!["--isolated".to_owned()]),
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

/// Runs it until it is stopped.
///
/// # Errors
/// Its directory cannot be used, or its fault ends it.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ModelError> {
    let folder = options.dir.join(".berth");
    std::fs::create_dir_all(&folder).map_err(ModelError::Directory)?;
    let _leading = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        lock = lead(&folder, options.mutant) => lock?,
    };
    let bus = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        bus = connect(&options) => bus?,
    };
    let (done, mut answers) = mpsc::channel(ANSWERS);
    let mut beats = bus.heartbeats();
    let mut model = Model::new(options, bus, done, &folder);
    model.announce().await;
    let mut tick = tokio::time::interval(times::TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(answer) = answers.recv() => model.answered(answer),
            beat = beats.recv() => match beat {
                Ok(beat) => model.heartbeat(&beat),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(ModelError::Broker),
            },
            _ = tick.tick() => model.tick().await?,
        }
    }
    if model.is(Mutant::StopsAllOnExit) {
        model.stop_everything().await;
    }
    Ok(())
}

/// Waits until no other instance leads.
async fn lead(folder: &Path, mutant: Option<Mutant>) -> Result<Option<Flock<File>>, ModelError> {
    if mutant == Some(Mutant::TwoLeaders) {
        return Ok(None);
    }
    loop {
        let file = File::create(folder.join(".lock")).map_err(ModelError::Directory)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err(_) => tokio::time::sleep(times::READ).await,
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
            Err(_) => tokio::time::sleep(times::READ).await,
        }
    }
}

/// Whose answer it is.
#[derive(Clone, Debug)]
enum About {
    Start(u64, String),
    Status(u64, String),
    Stop(String, String),
    Probe,
}

/// What became of a call.
#[derive(Clone, Debug)]
enum Outcome {
    Reply(Bytes),
    Nobody,
    Silence,
    Unsent,
    TooLarge,
}

#[derive(Clone, Debug)]
struct Response {
    about: About,
    host: String,
    outcome: Outcome,
}

/// The whole of it.
struct Model {
    options: Options,
    bus: Bus,
    done: mpsc::Sender<Response>,
    now: Instant,
    connected: bool,
    connected_at: Instant,
    away_since: Instant,
    /// When so many hosts were deaf at once that the broker was suspected.
    crowd_at: Option<Instant>,
    /// When all hosts were probed because one was found deaf.
    asked_all_at: Instant,
    hosts: BTreeMap<String, Host>,
    kept: Kept,
    desk: ManifestStore,
    /// What is kept has changed and is not on disk yet.
    dirty: bool,
    calls: u64,
    fatal: Option<ModelError>,
    /// Sent again when the connection is back: by a mutant only.
    late: Vec<(String, String, String, About)>,
    /// Starts to be sent again: host, replica, id, request.
    resend: Vec<(String, u64, String, String)>,
}

impl Model {
    fn new(options: Options, bus: Bus, done: mpsc::Sender<Response>, folder: &Path) -> Model {
        let now = Instant::now();
        let mut model = Model {
            desk: ManifestStore::new(&options.dir, folder),
            bus,
            done,
            now,
            connected: true,
            connected_at: now,
            away_since: now,
            crowd_at: None,
            asked_all_at: now,
            hosts: BTreeMap::new(),
            kept: Kept::default(),
            dirty: false,
            calls: 0,
            fatal: None,
            late: Vec::new(),
            resend: Vec::new(),
            options,
        };
        model.recall();
        model
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.options.mutant == Some(mutant)
    }

    fn varies(&self, variant: Variant) -> bool {
        self.options.variant == Some(variant)
    }

    async fn tick(&mut self) -> Result<(), ModelError> {
        self.now = Instant::now();
        self.look_at_the_link().await;
        self.read_desk();
        if self.desk.has_read() {
            self.reconcile();
        }
        self.watch_fleet().await;
        self.drive_replicas().await;
        self.drive_endings().await;
        self.save();
        self.show();
        match self.fatal.take() {
            Some(fatal) => Err(fatal),
            None => Ok(()),
        }
    }

    async fn look_at_the_link(&mut self) {
        let connected = self.bus.is_connected();
        if connected && !self.connected {
            self.connected_at = self.now;
            for host in self.hosts.values_mut() {
                host.beaten = false;
                host.deaf = None;
                host.in_crowd = false;
                host.heard = self.now;
            }
            if self.is(Mutant::OutageIsDeath)
                && self.now > self.away_since + Duration::from_secs(60)
            {
                self.lose_all();
            }
            self.connected = true;
            for (host, command, payload, about) in std::mem::take(&mut self.late) {
                self.send(&host, &command, payload, about).await;
            }
        }
        if !connected && self.connected {
            self.away_since = self.now;
            if self.is(Mutant::EndsWithTheBroker) {
                self.fatal = Some(ModelError::Broker);
            }
        }
        self.connected = connected;
    }

    /// A call to a host; its answer comes to [`Model::answered`]. Calls leave in the order in which they are made.
    async fn send(&mut self, host: &str, command: &str, payload: String, about: About) {
        let within = match about {
            About::Start(..) if self.is(Mutant::ImpatientForReplies) => Duration::from_secs(3),
            About::Start(..) => times::START,
            About::Stop(..) => times::STOP,
            About::Status(..) | About::Probe => times::ANSWER,
        };
        let answer = |outcome| Response {
            about: about.clone(),
            host: host.to_owned(),
            outcome,
        };
        if !self.connected {
            if self.is(Mutant::SendsLateCommands) && command != "workload.status" {
                let late = (host.to_owned(), command.to_owned(), payload, about.clone());
                self.late.push(late);
            }
            let _ = self.done.try_send(answer(Outcome::Unsent));
            return;
        }
        self.calls += 1;
        let subject = nats::command_subject(&self.address(host), command);
        let payload = Bytes::from(self.mangled(payload));
        let (inbox, headers) = (format!("c{}", self.calls), Headers::none());
        if payload.len() > self.bus.max_payload_bytes() {
            if self.is(Mutant::OversizedStartEndsIt) {
                self.fatal = Some(ModelError::TooLarge);
            }
            let _ = self.done.try_send(answer(Outcome::TooLarge));
            return;
        }
        let request = self.bus.request(&subject, &inbox, payload, &headers);
        let Ok(Ok(mut replies)) = tokio::time::timeout(SEND_WITHIN, request).await else {
            let _ = self.done.try_send(answer(Outcome::Unsent));
            return;
        };
        let (done, answer) = (self.done.clone(), answer(Outcome::Silence));
        let wait = async move {
            let outcome = match replies.next(within).await {
                None => Outcome::Silence,
                Some(delivery) if delivery.status == Some(503) => Outcome::Nobody,
                Some(delivery) => Outcome::Reply(delivery.payload),
            };
            let _ = done.send(Response { outcome, ..answer }).await;
        };
        if self.is(Mutant::OneCallAtATime) {
            wait.await;
        } else {
            tokio::spawn(wait);
        }
    }

    /// What the subject of a host is made of.
    fn address(&self, host: &str) -> String {
        let friendly = |host: &Host| {
            let name = host.beat.get("friendlyName")?.as_str()?;
            Some(name.to_owned())
        };
        match self.is(Mutant::CommandsByFriendlyName) {
            true => self.hosts.get(host).and_then(friendly),
            false => None,
        }
        .unwrap_or_else(|| host.to_owned())
    }

    /// The payload as a mutant would have written it.
    fn mangled(&self, payload: String) -> String {
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

    async fn announce(&mut self) {
        if self.is(Mutant::AnnouncesItself) {
            let subject = nats::heartbeat_subject("scheduler");
            // The monitor hears it, or the mutant survives.
            let _ = self
                .bus
                .publish(&subject, Bytes::from_static(b"{}"), &Headers::none())
                .await;
        }
    }

    async fn stop_everything(&mut self) {
        let running: Vec<(String, String)> = self
            .kept
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
                About::Stop(host.clone(), id),
            )
            .await;
        }
    }
}
