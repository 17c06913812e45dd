//! A simulated host: its connection to the bus, its workloads, and the rules that change its
//! reactions.

mod commands;
mod config;
mod script;
mod template;

pub use self::config::{HostConfig, HostFlavor, heartbeat};
pub use self::script::{CommandRule, Reaction, Script};
pub use self::template::ReplyTemplate;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::journal::{EventKind, Journal};
use crate::wire::nats;
use crate::wire::nats::{BusError, PeerConnection, Subscription};
use crate::wire::response::{Headers, State};

/// Time limit for a new connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Simulated host. Clones share it; dropping the last one disconnects it.
#[derive(Clone, Debug)]
pub struct SimulatedHost(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    journal: Journal,
    state: Mutex<HostState>,
    controls: watch::Sender<Controls>,
    session: Mutex<Option<Session>>,
}

/// State of a host.
#[derive(Debug)]
struct HostState {
    config: HostConfig,
    id: String,
    script: Script,
    workloads: BTreeMap<String, Workload>,
    /// Start time of the process, as its heartbeats report it.
    started_at: String,
    /// Number of further heartbeats to skip.
    heartbeats_to_skip: u32,
}

/// Workload on a simulated host.
#[derive(Clone, Debug)]
pub struct Workload {
    /// State of the workload.
    pub state: State,
    /// Message that accompanies the state.
    pub message: String,
    /// Payload of the start request.
    pub request: Value,
}

#[derive(Clone, Copy, Debug, Default)]
struct Controls {
    /// Whether all activity is stopped, with the connection open.
    frozen: bool,
    /// Whether the host sends no heartbeats; it still replies to commands.
    heartbeats_paused: bool,
}

/// Session of a host: one connection, and the task that serves it.
#[derive(Debug)]
struct Session {
    cancel: CancellationToken,
    connection: PeerConnection,
    _serve_task: AbortOnDropHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl SimulatedHost {
    /// Starts a host: connects, subscribes, and sends the first heartbeat.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn start(
        config: HostConfig,
        url: &str,
        journal: Journal,
    ) -> Result<SimulatedHost, BusError> {
        let id = config.id.clone().unwrap_or_else(new_id);
        let host = SimulatedHost(Arc::new(Inner {
            url: url.to_owned(),
            journal,
            state: Mutex::new(HostState {
                config,
                id,
                script: Script::default(),
                workloads: BTreeMap::new(),
                started_at: now(),
                heartbeats_to_skip: 0,
            }),
            controls: watch::Sender::new(Controls::default()),
            session: Mutex::new(None),
        }));
        host.connect().await?;
        Ok(host)
    }

    /// Returns the current id.
    pub fn id(&self) -> String {
        self.0.state().id.clone()
    }

    /// Returns the name in the scenario.
    pub fn name(&self) -> String {
        self.0.state().config.name.clone()
    }

    /// Returns the current configuration.
    pub fn config(&self) -> HostConfig {
        self.0.state().config.clone()
    }

    /// Adds a rule that changes the reaction to commands.
    pub fn add_rule(&self, rule: CommandRule) {
        self.0.state().script.add(rule);
    }

    /// Sets the duration of each start. The host reports STARTING during a start.
    pub fn set_start_duration(&self, duration: Duration) {
        self.0.state().config.start_duration = duration;
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.0.state().script.clear();
    }

    /// Changes a field of the heartbeat, beginning with the next one.
    pub fn set_heartbeat_field(&self, name: &str, value: Value) {
        let mut host = self.0.state();
        host.config.heartbeat_fields.insert(name.to_owned(), value);
    }

    /// Changes a label, beginning with the next heartbeat.
    pub fn set_label(&self, name: &str, value: &str) {
        let mut host = self.0.state();
        host.config.labels.insert(name.to_owned(), value.to_owned());
    }

    /// Puts a workload into a state, without a command.
    pub fn set_workload_state(&self, id: &str, state: State, message: &str) {
        let mut host = self.0.state();
        let previous = host
            .workloads
            .get(id)
            .map(|workload| workload.state.clone());
        let was_running = previous == Some(State::Running);
        if state == State::NotFound {
            host.workloads.remove(id);
        } else {
            let workload = host.workloads.entry(id.to_owned()).or_insert(Workload {
                state: State::Starting,
                message: String::new(),
                request: Value::Null,
            });
            workload.state = state.clone();
            workload.message = message.to_owned();
        }
        let is_running = state == State::Running;
        let host_id = host.id.clone();
        let name = host.config.name.clone();
        drop(host);
        let event = match (was_running, is_running) {
            (true, false) => EventKind::WorkloadEnded(id.to_owned()),
            (false, true) => EventKind::WorkloadRunning(id.to_owned()),
            _ => return,
        };
        self.0.journal.record(&name, &host_id, event);
    }

    /// Returns the workloads by id.
    pub fn workloads(&self) -> BTreeMap<String, Workload> {
        self.0.state().workloads.clone()
    }

    /// Returns the ids of the running workloads.
    pub fn running_ids(&self) -> Vec<String> {
        let host = self.0.state();
        let workloads = host.workloads.iter();
        workloads
            .filter(|(_, workload)| workload.state == State::Running)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Stops all activity, with the connection open. Received commands wait.
    pub fn freeze(&self) {
        self.0.record(EventKind::Frozen);
        self.0
            .controls
            .send_modify(|controls| controls.frozen = true);
    }

    /// Resumes activity, and executes the commands that wait.
    pub fn resume(&self) {
        self.0.record(EventKind::Resumed);
        self.0
            .controls
            .send_modify(|controls| controls.frozen = false);
    }

    /// Stops heartbeats. The host still replies to commands.
    pub fn pause_heartbeats(&self) {
        self.set_heartbeats_paused(true);
    }

    /// Resumes heartbeats.
    pub fn resume_heartbeats(&self) {
        self.set_heartbeats_paused(false);
    }

    fn set_heartbeats_paused(&self, paused: bool) {
        self.0
            .controls
            .send_modify(|controls| controls.heartbeats_paused = paused);
    }

    /// Skips the next `count` heartbeats.
    pub fn skip_heartbeats(&self, count: u32) {
        self.0.state().heartbeats_to_skip = count;
    }

    /// Publishes a heartbeat now.
    pub async fn send_heartbeat(&self) {
        let connection = self.0.connection();
        if let Some(connection) = connection {
            self.0.send_heartbeat(&connection).await;
        }
    }

    /// Publishes arbitrary bytes on the heartbeat subject of the host.
    pub async fn send_raw_heartbeat(&self, payload: impl Into<bytes::Bytes>) {
        if let Some(connection) = self.0.connection() {
            let subject = nats::heartbeat_subject(&self.id());
            // A host without a connection cannot send.
            let _ = connection
                .publish(&subject, payload.into(), &Headers::none())
                .await;
        }
    }

    /// Closes the connection. The workloads keep running.
    pub fn disconnect(&self) {
        let session = self.0.session().take();
        if session.is_some() {
            self.0.record(EventKind::Disconnected);
        }
    }

    /// Ends the process: closes the connection and ends all workloads.
    pub fn kill(&self) {
        self.disconnect();
        let workloads = std::mem::take(&mut self.0.state().workloads);
        for (id, workload) in workloads {
            if workload.state == State::Running {
                self.0.record(EventKind::WorkloadEnded(id));
            }
        }
    }

    /// Connects again with the same id and all workloads.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn reconnect(&self) -> Result<(), BusError> {
        self.connect().await
    }

    /// Connects again without a subscription: the host sends heartbeats, and its commands have no
    /// responders.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn reconnect_without_responders(&self) -> Result<(), BusError> {
        self.disconnect();
        self.0.state().config.has_no_responders = true;
        self.connect().await
    }

    /// Ends the process and starts a new one, with a new id and no workloads.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn restart(&self) -> Result<(), BusError> {
        self.kill();
        {
            let mut host = self.0.state();
            host.id = new_id();
            host.started_at = now();
        }
        self.connect().await
    }

    /// Ends the process and starts a new one, with the same id and no workloads.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn restart_with_same_id(&self) -> Result<(), BusError> {
        self.kill();
        self.0.state().started_at = now();
        self.connect().await
    }

    /// Returns whether the host is connected.
    pub fn is_connected(&self) -> bool {
        self.0
            .connection()
            .is_some_and(|connection| connection.is_connected())
    }

    async fn connect(&self) -> Result<(), BusError> {
        let (id, name, reconnect_delay, has_no_responders) = {
            let host = self.0.state();
            (
                host.id.clone(),
                host.config.name.clone(),
                host.config.reconnect_delay,
                host.config.has_no_responders,
            )
        };
        let connection = PeerConnection::connect(&self.0.url, &name, reconnect_delay);
        let connection = tokio::time::timeout(CONNECT_WITHIN, connection)
            .await
            .map_err(|_| BusError::Lost)??;
        let subject = nats::commands_subject(&id);
        let subject = if has_no_responders {
            format!("unused.{subject}")
        } else {
            subject
        };
        let subscription = connection.subscribe(&subject).await?;
        self.0.record(EventKind::Connected);
        self.0.send_heartbeat(&connection).await;
        connection.flush().await;
        let cancel = CancellationToken::new();
        let serve = serve(
            self.0.clone(),
            connection.clone(),
            subscription,
            cancel.clone(),
        );
        *self.0.session() = Some(Session {
            cancel,
            connection,
            _serve_task: AbortOnDropHandle::new(tokio::spawn(serve)),
        });
        Ok(())
    }
}

/// Executes commands and sends heartbeats until `cancel` is cancelled. A host of the flavor `Wash`
/// is serial: it executes one command at a time.
async fn serve(
    inner: Arc<Inner>,
    connection: PeerConnection,
    mut commands: Subscription,
    cancel: CancellationToken,
) {
    let interval = inner.state().config.heartbeat_interval;
    let is_serial = inner.state().config.flavor == HostFlavor::Wash;
    let mut heartbeats = tokio::time::interval(interval);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first heartbeat has been sent on connect.
    heartbeats.tick().await;
    let mut controls = inner.controls.subscribe();
    let mut connections = connection.connections();
    loop {
        let not_frozen = async {
            let _ = controls.wait_for(|controls| !controls.frozen).await;
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = not_frozen => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = controls.changed() => {}
            Ok(()) = connections.changed() => {
                // HOST-RESIL-002: a host sends a heartbeat when it is connected again.
                if *connections.borrow_and_update() > 1 && !is_serial {
                    inner.send_heartbeat(&connection).await;
                }
            }
            _ = heartbeats.tick() => inner.send_heartbeat(&connection).await,
            delivery = commands.next() => {
                let Some(delivery) = delivery else { return };
                // The command is recorded before the next delivery is read, so that the journal has
                // the order of arrival.
                let Some(received) = commands::receive(&inner, delivery) else { continue };
                let (inner, connection) = (inner.clone(), connection.clone());
                let execution = commands::execute(inner, connection, received, cancel.clone());
                if is_serial {
                    execution.await;
                } else {
                    tokio::spawn(execution);
                }
            }
        }
    }
}

impl HostState {
    fn heartbeat(&self) -> Value {
        if let Some(heartbeat) = &self.config.fixed_heartbeat {
            return heartbeat.clone();
        }
        let workloads = self.workloads.len();
        heartbeat(&self.config, &self.id, &self.started_at, workloads)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Option<PeerConnection> {
        self.session()
            .as_ref()
            .map(|session| session.connection.clone())
    }

    fn record(&self, event: EventKind) {
        let (name, id) = {
            let host = self.state();
            (host.config.name.clone(), host.id.clone())
        };
        self.journal.record(&name, &id, event);
    }

    async fn send_heartbeat(&self, connection: &PeerConnection) {
        if self.controls.borrow().heartbeats_paused {
            return;
        }
        let (subject, payload) = {
            let mut host = self.state();
            if host.heartbeats_to_skip > 0 {
                host.heartbeats_to_skip -= 1;
                return;
            }
            let heartbeat = host.heartbeat();
            (nats::heartbeat_subject(&host.id), heartbeat.to_string())
        };
        // A host without a connection cannot send.
        let _ = connection
            .publish(&subject, payload.into(), &Headers::none())
            .await;
    }
}

/// Current time as RFC 3339 in UTC.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    crate::wire::timestamp::rfc3339_ms(now.unwrap_or_default().as_millis()) + "Z"
}

/// Returns a random UUID.
fn new_id() -> String {
    let bits = rand::random::<u128>();
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}
