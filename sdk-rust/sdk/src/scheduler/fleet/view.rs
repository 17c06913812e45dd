//! What is shown of each host, and the events that tell of changes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_proto::{HostHeartbeat, WitInterface};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::scheduler::{Health, Reason};

/// One host as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView {
    /// What it last said of itself.
    pub heartbeat: HostHeartbeat,
    /// How it does.
    pub health: Health,
    /// Why it is not alive.
    pub reason: Option<Reason>,
    /// When its last heartbeat arrived.
    pub beat_at: Instant,
}

/// A change in the fleet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FleetEvent {
    /// A host that was not known is there.
    Joined {
        /// The host.
        host: HostView,
    },
    /// A host says something else of itself: labels, interfaces, ports. Load and counts do not count.
    Changed {
        /// The host as it is now.
        host: HostView,
    },
    /// Something is wrong with a host; nothing is to be concluded yet.
    Suspect {
        /// Its id.
        host_id: String,
        /// What is wrong.
        reason: Reason,
    },
    /// A host is taken for gone.
    Lost {
        /// Its id.
        host_id: String,
        /// Why.
        reason: Reason,
    },
    /// A suspect or lost host is well.
    Returned {
        /// The host.
        host: HostView,
        /// What it was taken for before.
        was: Health,
    },
    /// The reader was too slow for this many events: look at [`super::Fleet::hosts`] anew.
    Missed {
        /// How many.
        events: u64,
    },
}

/// All views, shared between the one who watches and those who look.
#[derive(Debug)]
pub(super) struct Views {
    hosts: Mutex<BTreeMap<String, HostView>>,
    events: broadcast::Sender<FleetEvent>,
}

impl Views {
    pub fn new(events: broadcast::Sender<FleetEvent>) -> Self {
        Self {
            hosts: Mutex::default(),
            events,
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<FleetEvent> {
        self.events.subscribe()
    }

    pub fn all(&self) -> Vec<HostView> {
        self.lock().values().cloned().collect()
    }

    pub fn get(&self, host_id: &str) -> Option<HostView> {
        self.lock().get(host_id).cloned()
    }

    /// Takes in a heartbeat and tells of what it changes.
    pub fn beat(&self, heartbeat: HostHeartbeat) {
        let mut hosts = self.lock();
        let id = heartbeat.id.clone();
        let (health, reason, beat_at) = (Health::Alive, None, Instant::now());
        let Some(host) = hosts.get_mut(&id) else {
            let host = HostView {
                heartbeat,
                health,
                reason,
                beat_at,
            };
            hosts.insert(id, host.clone());
            return self.tell(FleetEvent::Joined { host });
        };
        let before = std::mem::replace(&mut host.heartbeat, heartbeat);
        host.beat_at = beat_at;
        let host = host.clone();
        drop(hosts);
        if before.started_at != host.heartbeat.started_at {
            self.tell(FleetEvent::Lost {
                host_id: id,
                reason: Reason::Restarted,
            });
            self.tell(FleetEvent::Joined { host });
        } else if lasting(before) != lasting(host.heartbeat.clone()) {
            self.tell(FleetEvent::Changed { host });
        }
    }

    /// Takes in what liveness has concluded.
    pub fn judge(&self, host_id: String, health: Health, reason: Option<Reason>) {
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(&host_id) else {
            return;
        };
        let was = std::mem::replace(&mut host.health, health);
        host.reason = reason;
        let host = host.clone();
        drop(hosts);
        self.tell(match (health, reason) {
            (Health::Suspect, Some(reason)) => FleetEvent::Suspect { host_id, reason },
            (Health::Lost, Some(reason)) => FleetEvent::Lost { host_id, reason },
            _ => FleetEvent::Returned { host, was },
        });
    }

    pub fn forget(&self, host_id: &str) {
        self.lock().remove(host_id);
    }

    fn tell(&self, event: FleetEvent) {
        // Nobody may be listening, which is fine.
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostView>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A heartbeat without what changes from one to the next, and without the order of interfaces, which
/// a `wash host` does not keep.
fn lasting(mut heartbeat: HostHeartbeat) -> HostHeartbeat {
    for interface in heartbeat.imports.iter_mut().chain(&mut heartbeat.exports) {
        interface.interfaces.sort();
    }
    let key = |one: &WitInterface| {
        let WitInterface {
            namespace,
            package,
            version,
            interfaces,
            name,
            ..
        } = one.clone();
        (namespace, package, version, name, interfaces)
    };
    heartbeat.imports.sort_by_key(key);
    heartbeat.exports.sort_by_key(key);
    HostHeartbeat {
        system_cpu_usage: 0.0,
        system_memory_free: 0,
        component_count: 0,
        workload_count: 0,
        ..heartbeat
    }
}
