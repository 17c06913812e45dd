//! What is still to be stopped on hosts that are lost, kept in Host objects: a host may come back after the scheduler
//! that gave it up has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::HostObject;
use crate::api::{self, Key, Kind};
use crate::core::Scheduler;
use crate::core::agenda::Item;

/// Annotation of a Host object: what is still to be stopped, as JSON from host ids to lists of ids.
const TO_STOP_ANNOTATION: &str = "berth.dev/to-stop";

pub(super) type ToStop = BTreeMap<String, BTreeSet<String>>;

/// What an object remembers.
pub(super) fn of(object: &api::Host) -> ToStop {
    let text = object.metadata.annotations.get(TO_STOP_ANNOTATION);
    let remembered = text.and_then(|text| serde_json::from_str(text).ok());
    remembered.unwrap_or_default()
}

/// The annotation that remembers, or its absence.
pub(super) fn annotation(to_stop: &ToStop) -> (String, Option<String>) {
    let text = serde_json::to_string(to_stop).ok();
    let text = text.filter(|_| !to_stop.is_empty());
    (TO_STOP_ANNOTATION.to_owned(), text)
}

impl HostObject {
    /// Whether an id is safe to be stopped one day, or nothing can be done about it.
    pub fn remembers(&self, host_id: &str, id: &str) -> bool {
        let ids = self.remembered.get(host_id);
        ids.is_some_and(|ids| ids.contains(id)) || self.kept.is_failing()
    }

    /// Whether it is there to stay, and the store takes writes of it.
    fn can_remember(&self) -> bool {
        let object = self.kept.object.as_ref();
        let stays = object.is_some_and(|object| !object.metadata.is_deleting());
        stays && !self.deleting && !self.kept.is_failing()
    }
}

impl Scheduler {
    /// What an earlier scheduler, or we in an earlier life, wanted stopped.
    pub(super) fn remember_again(&mut self, number: u32) {
        let Some(record) = self.host_objects.get(number) else {
            return;
        };
        for (host_id, ids) in record.remembered.clone() {
            let host = self.known_host(&host_id, true);
            if let Some(record) = self.host_objects.get_mut(number) {
                record.hosts.insert(host);
            }
            if let Some(host) = self.fleet.get_mut(host) {
                host.object.get_or_insert(number);
            }
            for id in ids {
                self.want_stop(host, &id.into(), None, Duration::ZERO);
            }
        }
    }

    /// What the object has to remember: orphans, and on lost hosts all that is to be stopped.
    pub(super) fn to_stop(&self, record: &HostObject) -> ToStop {
        let mut to_stop = ToStop::new();
        for host in record.hosts.iter().filter_map(|host| self.fleet.get(*host)) {
            let lost = host.is_lost();
            let ids = host.stops.iter();
            let ids = ids.filter(|(_, stop)| lost || stop.holder.is_none());
            let ids: BTreeSet<_> = ids.map(|(id, _)| id.to_string()).collect();
            if !ids.is_empty() {
                to_stop.insert(host.id.to_string(), ids);
            }
        }
        to_stop
    }

    /// What the deleted object of a lost host remembers goes to another object before it is let go: a scheduler
    /// that is ended just then would leave for ever what runs there. Says whether that is done, or cannot be.
    pub(super) fn has_handed_over(&mut self, number: u32) -> bool {
        let Some(record) = self.host_objects.get(number) else {
            return true;
        };
        let object = record.kept.object.as_ref();
        let lost = |host: u32| self.fleet.get(host).is_some_and(|host| host.is_lost());
        if !object.is_some_and(|object| object.metadata.is_deleting()) || !lost(record.holder) {
            return true;
        }
        let to_stop = self.to_stop(record);
        let hosts = record.hosts.clone();
        let others = self.host_objects.iter();
        let others = others.filter(|(other, it)| *other != number && it.can_remember());
        // Best is one whose host lives, for that is not deleted soon.
        let Some((keeper, kept)) = others.min_by_key(|(_, it)| lost(it.holder)) else {
            return true;
        };
        let mut ids = to_stop
            .iter()
            .flat_map(|(host, ids)| ids.iter().map(move |id| (host, id)));
        if ids.all(|(host, id)| kept.remembers(host, id)) {
            return true;
        }
        if let Some(kept) = self.host_objects.get_mut(keeper) {
            kept.hosts.extend(hosts);
        }
        self.agenda.look_at(Item::Host(keeper));
        false
    }

    /// A lost host without an object has something to be stopped: it gets one that remembers it. Whoever deleted
    /// the one before finds it back.
    pub(in crate::core) fn remember_host(&mut self, number: u32) -> Option<u32> {
        let host = self.fleet.get(number)?;
        let heard = host
            .report
            .as_ref()
            .map(|report| report.friendly_name.as_str());
        let seen = || Some(host.shadow.as_ref()?.metadata.name.as_str());
        let name = heard.or_else(seen)?;
        let key = Key::new(Kind::Host, self.options.host_namespace.as_str(), name);
        let object = match self.host_objects.number(&key) {
            Some(object) => object,
            None => {
                let object = self.new_host_object(key, number);
                self.hold_name(object, number);
                object
            }
        };
        if let Some(record) = self.host_objects.get_mut(object) {
            record.hosts.insert(number);
        }
        if let Some(host) = self.fleet.get_mut(number) {
            host.object = Some(object);
        }
        Some(object)
    }

    /// A host is gone for good; so is its object, unless that serves another by now.
    pub(in crate::core) fn host_forgotten(&mut self, host: u32) {
        let objects = self.host_objects.iter();
        let objects = objects.filter(|(_, record)| record.hosts.contains(&host));
        let objects: Vec<u32> = objects.map(|(number, _)| number).collect();
        for object in objects {
            if let Some(record) = self.host_objects.get_mut(object) {
                record.hosts.remove(&host);
                record.deleting |= record.hosts.is_empty();
            }
            self.agenda.look_at(Item::Host(object));
        }
    }
}
