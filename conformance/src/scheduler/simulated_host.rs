//! One simulated host: a connection of its own to the bus, manners, and a script of what goes wrong.

mod commands;
mod profile;
mod script;

pub use self::profile::{HostFlavor, HostPlan, heartbeat};
pub use self::script::{Act, Rule, Script};

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
use crate::wire::nats::{BusError, Link, Subscription};
use crate::wire::response::{Headers, State};

/// How long a freshly made connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A simulated host. Clones are the same host; it is gone when the last one is dropped.
#[derive(Clone, Debug)]
pub struct SimulatedHost(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    journal: Journal,
    book: Mutex<Book>,
    switches: watch::Sender<Switches>,
    up: Mutex<Option<Up>>,
}

/// What a host knows.
#[derive(Debug)]
struct Book {
    plan: HostPlan,
    id: String,
    script: Script,
    workloads: BTreeMap<String, Workload>,
    /// When the process began, as its heartbeats say it.
    started_at: String,
    /// Heartbeats that are still to be left out.
    beats_to_skip: u32,
}

/// A workload on a simulated host.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its state.
    pub state: State,
    /// What status says beside it.
    pub message: String,
    /// The `workload` of the request that started it.
    pub request: Value,
}

#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    /// Nothing is done, with the connection open.
    frozen: bool,
    /// Commands are answered, and no heartbeat is published.
    mute: bool,
}

#[derive(Debug)]
struct Up {
    cancel: CancellationToken,
    link: Link,
    _pump: AbortOnDropHandle<()>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl SimulatedHost {
    /// Brings a host up: connected, subscribed, and its first heartbeat sent.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn bring_up(
        plan: HostPlan,
        url: &str,
        journal: Journal,
    ) -> Result<SimulatedHost, BusError> {
        let id = plan.id.clone().unwrap_or_else(new_id);
        let host = SimulatedHost(Arc::new(Inner {
            url: url.to_owned(),
            journal,
            book: Mutex::new(Book {
                plan,
                id,
                script: Script::default(),
                workloads: BTreeMap::new(),
                started_at: now(),
                beats_to_skip: 0,
            }),
            switches: watch::Sender::new(Switches::default()),
            up: Mutex::new(None),
        }));
        host.connect().await?;
        Ok(host)
    }

    /// The id in its subjects at the moment.
    pub fn id(&self) -> String {
        self.0.book().id.clone()
    }

    /// What the scenario calls it.
    pub fn name(&self) -> String {
        self.0.book().plan.name.clone()
    }

    /// What it is, as it says it of itself now.
    pub fn plan(&self) -> HostPlan {
        self.0.book().plan.clone()
    }

    /// Adds a rule to its script.
    pub fn script(&self, rule: Rule) {
        self.0.book().script.add(rule);
    }

    /// Takes every rule back.
    pub fn behave(&self) {
        self.0.book().script.clear();
    }

    /// Changes a member of its heartbeats, from the next one on.
    pub fn fact(&self, name: &str, value: Value) {
        self.0.book().plan.facts.insert(name.to_owned(), value);
    }

    /// Changes a label, from the next heartbeat on.
    pub fn label(&self, name: &str, value: &str) {
        let mut book = self.0.book();
        book.plan.labels.insert(name.to_owned(), value.to_owned());
    }

    /// Puts a workload into a state, as if it had come to that by itself.
    pub fn put(&self, id: &str, state: State, message: &str) {
        let mut book = self.0.book();
        let was = book
            .workloads
            .get(id)
            .map(|workload| workload.state.clone());
        let ran = was == Some(State::Running);
        if state == State::NotFound {
            book.workloads.remove(id);
        } else {
            let workload = book.workloads.entry(id.to_owned()).or_insert(Workload {
                state: State::Starting,
                message: String::new(),
                request: Value::Null,
            });
            workload.state = state.clone();
            workload.message = message.to_owned();
        }
        let runs = state == State::Running;
        let host_id = book.id.clone();
        let name = book.plan.name.clone();
        drop(book);
        match (ran, runs) {
            (true, false) => self
                .0
                .journal
                .write(&name, &host_id, EventKind::Ended(id.to_owned())),
            (false, true) => self
                .0
                .journal
                .write(&name, &host_id, EventKind::Ran(id.to_owned())),
            _ => {}
        }
    }

    /// Its workloads by id.
    pub fn workloads(&self) -> BTreeMap<String, Workload> {
        self.0.book().workloads.clone()
    }

    /// The ids that run.
    pub fn running(&self) -> Vec<String> {
        let book = self.0.book();
        let running = book.workloads.iter();
        running
            .filter(|(_, workload)| workload.state == State::Running)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Does nothing any more and stays connected: what arrives waits.
    pub fn freeze(&self) {
        self.0.note(EventKind::Frozen);
        self.0
            .switches
            .send_modify(|switches| switches.frozen = true);
    }

    /// Goes on, and works off what has arrived.
    pub fn thaw(&self) {
        self.0.note(EventKind::Thawed);
        self.0
            .switches
            .send_modify(|switches| switches.frozen = false);
    }

    /// Publishes no heartbeats any more, and answers as before; or does again.
    pub fn mute(&self, mute: bool) {
        self.0.switches.send_modify(|switches| switches.mute = mute);
    }

    /// Leaves out so many heartbeats.
    pub fn skip_beats(&self, beats: u32) {
        self.0.book().beats_to_skip = beats;
    }

    /// Publishes a heartbeat now.
    pub async fn beat(&self) {
        let link = self.0.link();
        if let Some(link) = link {
            self.0.beat(&link).await;
        }
    }

    /// Publishes bytes on the subject of its heartbeats, whatever they are.
    pub async fn beat_with(&self, payload: impl Into<bytes::Bytes>) {
        if let Some(link) = self.0.link() {
            let subject = nats::heartbeat_subject(&self.id());
            // A host whose connection is gone says nothing.
            let _ = link
                .publish(&subject, payload.into(), &Headers::none())
                .await;
        }
    }

    /// Cuts it off: its connection is closed, what runs on it runs on.
    pub fn cut_off(&self) {
        let up = self.0.up().take();
        if up.is_some() {
            self.0.note(EventKind::Down);
        }
    }

    /// Ends its process: its connection is closed, and everything that ran has ended.
    pub fn kill(&self) {
        self.cut_off();
        let workloads = std::mem::take(&mut self.0.book().workloads);
        for (id, workload) in workloads {
            if workload.state == State::Running {
                self.0.note(EventKind::Ended(id));
            }
        }
    }

    /// Connects again under the same id, with all that it has.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn come_back(&self) -> Result<(), BusError> {
        self.connect().await
    }

    /// Ends its process and starts a new one: with a new id and nothing on it.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn restart(&self) -> Result<(), BusError> {
        self.kill();
        {
            let mut book = self.0.book();
            book.id = new_id();
            book.started_at = now();
        }
        self.connect().await
    }

    /// Starts a new process under the same id, with nothing on it.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn restart_with_same_id(&self) -> Result<(), BusError> {
        self.kill();
        self.0.book().started_at = now();
        self.connect().await
    }

    /// Whether its connection is there.
    pub fn is_connected(&self) -> bool {
        self.0.link().is_some_and(|link| link.is_connected())
    }

    async fn connect(&self) -> Result<(), BusError> {
        let (id, name, reconnect_after) = {
            let book = self.0.book();
            (
                book.id.clone(),
                book.plan.name.clone(),
                book.plan.reconnect_after,
            )
        };
        let link = Link::connect(&self.0.url, &name, reconnect_after);
        let link = tokio::time::timeout(CONNECT_WITHIN, link)
            .await
            .map_err(|_| BusError::Lost)??;
        let subscription = link.subscribe(&nats::commands_subject(&id)).await?;
        self.0.note(EventKind::Up);
        self.0.beat(&link).await;
        link.flush().await;
        let cancel = CancellationToken::new();
        let pump = pump(self.0.clone(), link.clone(), subscription, cancel.clone());
        *self.0.up() = Some(Up {
            cancel,
            link,
            _pump: AbortOnDropHandle::new(tokio::spawn(pump)),
        });
        Ok(())
    }
}

/// Serves commands and beats, until the connection is to go.
async fn pump(
    inner: Arc<Inner>,
    link: Link,
    mut commands: Subscription,
    cancel: CancellationToken,
) {
    let every = inner.book().plan.beat_every;
    let serial = inner.book().plan.look == HostFlavor::Wash;
    let mut beats = tokio::time::interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one has left already.
    beats.tick().await;
    let mut switches = inner.switches.subscribe();
    let mut connections = link.connections();
    loop {
        let thawed = async {
            let _ = switches.wait_for(|switches| !switches.frozen).await;
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = thawed => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = switches.changed() => {}
            Ok(()) = connections.changed() => {
                // HOST-RESIL-002: whoever is back says so. The first connection has its heartbeat already.
                if *connections.borrow_and_update() > 1 && !serial {
                    inner.beat(&link).await;
                }
            }
            _ = beats.tick() => inner.beat(&link).await,
            delivery = commands.next() => {
                let Some(delivery) = delivery else { return };
                // It is entered before anything else is taken, so that the journal keeps the order.
                let Some(came) = commands::enter(&inner, delivery) else { continue };
                let obeyed = commands::obey(inner.clone(), link.clone(), came, cancel.clone());
                if serial {
                    obeyed.await;
                } else {
                    tokio::spawn(obeyed);
                }
            }
        }
    }
}

impl Book {
    fn heartbeat(&self) -> Value {
        heartbeat(&self.plan, &self.id, &self.started_at, self.workloads.len())
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> MutexGuard<'_, Option<Up>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Option<Link> {
        self.up().as_ref().map(|up| up.link.clone())
    }

    fn note(&self, what: EventKind) {
        let (name, id) = {
            let book = self.book();
            (book.plan.name.clone(), book.id.clone())
        };
        self.journal.write(&name, &id, what);
    }

    async fn beat(&self, link: &Link) {
        if self.switches.borrow().mute {
            return;
        }
        let (subject, payload) = {
            let mut book = self.book();
            if book.beats_to_skip > 0 {
                book.beats_to_skip -= 1;
                return;
            }
            let beat = book.heartbeat();
            (nats::heartbeat_subject(&book.id), beat.to_string())
        };
        // A host whose connection is gone says nothing.
        let _ = link
            .publish(&subject, payload.into(), &Headers::none())
            .await;
    }
}

/// Now, as RFC 3339 in UTC.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    crate::wire::timestamp::rfc3339_ms(now.unwrap_or_default().as_millis()) + "Z"
}

/// As a process makes one up.
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
