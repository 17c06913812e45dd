//! The public view of each host, and the events of the fleet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_proto::{HostHeartbeat, WitInterface};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::scheduler::{Health, Reason};

/// A host as the fleet knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView {
    /// Latest heartbeat of the host.
    pub heartbeat: HostHeartbeat,
    /// Health of the host.
    pub health: Health,
    /// Reason why the host is suspect or lost.
    pub reason: Option<Reason>,
    /// Arrival time of the latest heartbeat.
    pub last_heartbeat_at: Instant,
}

/// A change in the fleet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FleetEvent {
    /// A new host has appeared.
    Joined {
        /// The host.
        host: HostView,
    },
    /// A heartbeat differs from the one before in more than load and counts.
    Changed {
        /// The host with its new heartbeat.
        host: HostView,
    },
    /// A host may be lost; no conclusion should be drawn yet.
    Suspect {
        /// ID of the host.
        host_id: String,
        /// Reason for the suspicion.
        reason: Reason,
    },
    /// A host is considered lost.
    Lost {
        /// ID of the host.
        host_id: String,
        /// Reason why the host is considered lost.
        reason: Reason,
    },
    /// A suspect or lost host is alive again.
    Recovered {
        /// The host.
        host: HostView,
        /// Health of the host before the recovery.
        previous_health: Health,
    },
    /// The reader was too slow and missed events: read [`super::Fleet::hosts`] again.
    Missed {
        /// Number of missed events.
        count: u64,
    },
}

/// All views, shared by the watcher and the readers.
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

    /// Applies a heartbeat and emits events for its changes.
    pub fn apply_heartbeat(&self, heartbeat: HostHeartbeat) {
        let mut hosts = self.lock();
        let id = heartbeat.id.clone();
        let (health, reason, last_heartbeat_at) = (Health::Alive, None, Instant::now());
        let Some(host) = hosts.get_mut(&id) else {
            let host = HostView {
                heartbeat,
                health,
                reason,
                last_heartbeat_at,
            };
            hosts.insert(id, host.clone());
            return self.emit(FleetEvent::Joined { host });
        };
        let before = std::mem::replace(&mut host.heartbeat, heartbeat);
        host.last_heartbeat_at = last_heartbeat_at;
        let host = host.clone();
        drop(hosts);
        if before.started_at != host.heartbeat.started_at {
            self.emit(FleetEvent::Lost {
                host_id: id,
                reason: Reason::Restarted,
            });
            self.emit(FleetEvent::Joined { host });
        } else if without_metrics(before) != without_metrics(host.heartbeat.clone()) {
            self.emit(FleetEvent::Changed { host });
        }
    }

    /// Sets the health of a host and emits an event.
    pub fn set_health(&self, host_id: String, health: Health, reason: Option<Reason>) {
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(&host_id) else {
            return;
        };
        let previous_health = std::mem::replace(&mut host.health, health);
        host.reason = reason;
        let host = host.clone();
        drop(hosts);
        self.emit(match (health, reason) {
            (Health::Suspect, Some(reason)) => FleetEvent::Suspect { host_id, reason },
            (Health::Lost, Some(reason)) => FleetEvent::Lost { host_id, reason },
            _ => FleetEvent::Recovered {
                host,
                previous_health,
            },
        });
    }

    pub fn forget(&self, host_id: &str) {
        self.lock().remove(host_id);
    }

    fn emit(&self, event: FleetEvent) {
        // Sending fails if there are no receivers, which is fine.
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostView>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Strips a heartbeat of load and counts, and sorts its interfaces, because a `wash host` does not
/// keep their order.
fn without_metrics(mut heartbeat: HostHeartbeat) -> HostHeartbeat {
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
