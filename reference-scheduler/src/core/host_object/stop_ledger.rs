//! The ledger of pending stops on lost hosts, recorded in Host objects: a host may return after the
//! scheduler that declared it lost has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{HostObject, metadata};
use crate::api::{self, Key, Kind};
use crate::core::Scheduler;
use crate::core::work_queue::WorkItem;

/// Annotation of a Host object with pending stops, as JSON: a map of host ids to lists of workload
/// ids.
const PENDING_STOPS_ANNOTATION: &str = "berth.dev/to-stop";

/// Pending stops: a map of host ids to ids of incarnations.
pub(super) type StopLedger = BTreeMap<String, BTreeSet<String>>;

/// Reads the ledger of an object.
pub(super) fn read(object: &api::Host) -> StopLedger {
    let text = object.metadata.annotations.get(PENDING_STOPS_ANNOTATION);
    let ledger = text.and_then(|text| serde_json::from_str(text).ok());
    ledger.unwrap_or_default()
}

/// Returns name and value of the annotation for a ledger; the value is `None` if the ledger is
/// empty.
pub(super) fn annotation(ledger: &StopLedger) -> (String, Option<String>) {
    let text = serde_json::to_string(ledger).ok();
    let text = text.filter(|_| !ledger.is_empty());
    (PENDING_STOPS_ANNOTATION.to_owned(), text)
}

impl HostObject {
    /// Returns whether there is no need to wait for the record of a stop: the store has recorded
    /// the stop, or currently accepts no writes to the object.
    pub fn has_recorded_stop_or_is_failing(&self, host_id: &str, id: &str) -> bool {
        let ids = self.recorded_stops.get(host_id);
        ids.is_some_and(|ids| ids.contains(id)) || self.cached.is_failing()
    }

    /// Returns whether the object stays and the store accepts writes to it.
    fn can_record_stops(&self) -> bool {
        let object = self.cached.object.as_ref();
        let stays = object.is_some_and(|object| !object.metadata.is_deleting());
        stays && !self.is_obsolete && !self.cached.is_failing()
    }
}

impl Scheduler {
    /// Restores the pending stops that an earlier scheduler recorded.
    pub(super) fn restore_pending_stops(&mut self, object_index: u32) {
        let Some(record) = self.host_objects.get(object_index) else {
            return;
        };
        for (host_id, ids) in record.recorded_stops.clone() {
            let lost = true;
            let host = self.ensure_host(&host_id, lost);
            if let Some(record) = self.host_objects.get_mut(object_index) {
                record.hosts.insert(host);
            }
            if let Some(host) = self.fleet.get_mut(host) {
                host.object.get_or_insert(object_index);
            }
            for id in ids {
                self.request_stop(host, &id.into(), None, Duration::ZERO);
            }
        }
    }

    /// Returns the stops that the object has to record: all pending stops of lost hosts, and the
    /// pending stops of other hosts without a waiter.
    pub(super) fn desired_ledger(&self, record: &HostObject) -> StopLedger {
        let mut ledger = StopLedger::new();
        for host in record.hosts.iter().filter_map(|host| self.fleet.get(*host)) {
            let lost = host.is_lost();
            let ids = host.stops.iter();
            let ids = ids.filter(|(_, stop)| lost || stop.waiter.is_none());
            let ids: BTreeSet<_> = ids.map(|(id, _)| id.to_string()).collect();
            if !ids.is_empty() {
                ledger.insert(host.id.to_string(), ids);
            }
        }
        ledger
    }

    /// Transfers the stops of a lost host's deleted object to another object before the finalizer
    /// of the deleted object is removed. Without the transfer, a scheduler that ends at that moment
    /// would leave the workloads running forever. Returns whether nothing is left to transfer, or
    /// no other object can record the stops.
    pub(super) fn transfer_stops(&mut self, object_index: u32) -> bool {
        let Some(record) = self.host_objects.get(object_index) else {
            return true;
        };
        let object = record.cached.object.as_ref();
        let lost = |host: u32| self.fleet.get(host).is_some_and(|host| host.is_lost());
        if !object.is_some_and(|object| object.metadata.is_deleting()) || !lost(record.current_host)
        {
            return true;
        }
        let ledger = self.desired_ledger(record);
        let hosts = record.hosts.clone();
        let others = self.host_objects.iter();
        let others = others.filter(|(other, it)| *other != object_index && it.can_record_stops());
        // Prefer an object whose host is alive, since that object is not deleted soon.
        let Some((target, target_record)) = others.min_by_key(|(_, it)| lost(it.current_host))
        else {
            return true;
        };
        let mut ids = ledger
            .iter()
            .flat_map(|(host, ids)| ids.iter().map(move |id| (host, id)));
        if ids.all(|(host, id)| target_record.has_recorded_stop_or_is_failing(host, id)) {
            return true;
        }
        if let Some(target_record) = self.host_objects.get_mut(target) {
            target_record.hosts.extend(hosts);
        }
        self.queue.enqueue(WorkItem::HostObject(target));
        false
    }

    /// Recreates the object of a lost host to record its pending stops. It becomes visible again to
    /// the user who deleted the previous object.
    pub(in crate::core) fn recreate_host_object(&mut self, host_index: u32) -> Option<u32> {
        let host = self.fleet.get(host_index)?;
        let from_heartbeat = host
            .last_heartbeat
            .as_ref()
            .map(|heartbeat| metadata::object_name(&heartbeat.friendly_name));
        let from_tombstone = || Some(host.tombstone.as_ref()?.metadata.name.clone());
        let name = from_heartbeat.or_else(from_tombstone)?;
        let key = Key::new(Kind::Host, self.options.host_namespace.as_str(), name);
        let object = match self.host_objects.index(&key) {
            Some(object) => object,
            None => {
                let object = self.new_host_object(key, host_index);
                self.claim_name(object, host_index);
                object
            }
        };
        if let Some(record) = self.host_objects.get_mut(object) {
            record.hosts.insert(host_index);
        }
        if let Some(host) = self.fleet.get_mut(host_index) {
            host.object = Some(object);
        }
        Some(object)
    }

    /// Marks the object of a forgotten host as obsolete, unless another host uses the object.
    pub(in crate::core) fn on_host_forgotten(&mut self, host: u32) {
        let objects = self.host_objects.iter();
        let objects = objects.filter(|(_, record)| record.hosts.contains(&host));
        let objects: Vec<u32> = objects.map(|(index, _)| index).collect();
        for object in objects {
            if let Some(record) = self.host_objects.get_mut(object) {
                record.hosts.remove(&host);
                record.is_obsolete |= record.hosts.is_empty();
            }
            self.queue.enqueue(WorkItem::HostObject(object));
        }
    }
}
