//! The Host objects: made and kept from heartbeats, emptied when they are deleted, and the memory of
//! what must be stopped on hosts that are lost.

mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::{Health, Reason};

use super::agenda::Item;
use super::fleet::Host;
use super::kept::Kept;
use super::workload::Workload;
use super::{HostReport, MetadataPatch, Scheduler, Status, Write, WriteError};
use crate::api::{
    self, Condition, ConditionStatus, HostStatus, Key, Kind, Metadata, Object, condition, names,
    set_condition,
};
use crate::breakage::Breakage;

/// One Host object. It is called what the host calls itself, so that it may serve several, one after
/// another.
#[derive(Debug)]
pub(super) struct HostObject {
    pub key: Key,
    pub kept: Kept<api::Host>,
    /// The host that it shows.
    holder: u32,
    /// All that have called themselves so and may have something to stop.
    hosts: BTreeSet<u32>,
    remembered: memory::ToStop,
    reported_at: Duration,
    deleting: bool,
    doubted: BTreeSet<u32>,
}

impl HostObject {
    pub fn uid(&self) -> String {
        let object = self.kept.object.as_ref();
        object.map_or_else(String::new, |object| object.metadata.uid.clone())
    }

    fn accept(&mut self, object: Arc<api::Host>) -> bool {
        let fresh = self.kept.accept(object, |host| &host.metadata);
        if let Some(object) = self.kept.object.as_ref().filter(|_| fresh) {
            self.remembered = memory::of(object);
        }
        fresh
    }
}

impl Scheduler {
    /// Finds or makes the object for what a host calls itself. A name belongs to the first that has it,
    /// until that is lost.
    pub(super) fn name_host(&mut self, number: u32) {
        let Some(report) = self.fleet.get(number).and_then(|host| host.report.as_ref()) else {
            return;
        };
        let namespace = self.options.host_namespace.as_str();
        let key = Key::new(Kind::Host, namespace, report.friendly_name.as_str());
        let object = match self.host_objects.number(&key) {
            Some(object) => object,
            None => self.new_host_object(key, number),
        };
        let Some(record) = self.host_objects.get(object) else {
            return;
        };
        let holder = record.holder;
        let free = holder != number && self.fleet.get(holder).is_none_or(Host::is_lost);
        if holder == number || free {
            self.hold_name(object, number);
        } else {
            self.refuse_name(object, number);
        }
    }

    fn new_host_object(&mut self, key: Key, holder: u32) -> u32 {
        let record = HostObject {
            key: key.clone(),
            kept: Kept::default(),
            holder,
            hosts: BTreeSet::new(),
            remembered: memory::ToStop::new(),
            reported_at: Duration::ZERO,
            deleting: false,
            doubted: BTreeSet::new(),
        };
        self.host_objects.insert(key, record)
    }

    fn hold_name(&mut self, object: u32, number: u32) {
        let mut before = None;
        if let Some(record) = self.host_objects.get_mut(object) {
            before = Some(std::mem::replace(&mut record.holder, number));
            record.hosts.insert(number);
            record.deleting = false;
        }
        if let Some(before) = before.filter(|before| *before != number)
            && let Some(before) = self.fleet.get_mut(before)
        {
            before.is_named = false;
        }
        let Some(host) = self.fleet.get_mut(number) else {
            return;
        };
        let had_name = std::mem::replace(&mut host.is_named, true);
        let is_new = host.object.replace(object) != Some(object) || !had_name;
        self.agenda.look_at(Item::Host(object));
        if is_new {
            self.host_changed(number);
        }
    }

    /// Two hosts of one name are two hosts (SCHED-REG-004), but the object shows the first while that lives, or it
    /// would flap.
    fn refuse_name(&mut self, object: u32, number: u32) {
        let Some(record) = self.host_objects.get_mut(object) else {
            return;
        };
        if !record.doubted.insert(number) {
            return;
        }
        // It remembers for both what is to be stopped.
        record.hosts.insert(number);
        let (key, uid) = (record.key.clone(), record.uid());
        let mut id = None;
        if let Some(host) = self.fleet.get_mut(number) {
            host.object.get_or_insert(object);
            id = Some(host.id.clone());
        }
        let message = format!(
            "host {} has the name of another one that lives, and no object of its own",
            id.unwrap_or_default()
        );
        self.warn(key, uid, "NameTaken", message);
    }

    /// Takes in a Host object from the store.
    pub(super) fn apply_host_object(&mut self, object: Arc<api::Host>) {
        let key = Object::Host(object.clone()).key();
        if &*key.namespace != self.options.host_namespace.as_str() || object.host_id.is_empty() {
            return;
        }
        let ready = object
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let was_lost = ready
            .and_then(|list| condition(list, names::host::READY))
            .is_some_and(|ready| ready.status == ConditionStatus::False);
        let number = match self.host_objects.number(&key) {
            Some(number) => number,
            None => {
                let holder = self.known_host(&object.host_id, was_lost);
                let number = self.new_host_object(key, holder);
                self.hold_name(number, holder);
                number
            }
        };
        let Some(record) = self.host_objects.get_mut(number) else {
            return;
        };
        let first = record.kept.object.is_none();
        if !record.accept(object) {
            return;
        }
        let (holder, deleting) = (record.holder, record.kept.object.as_ref());
        let deleting = deleting.is_some_and(|object| object.metadata.is_deleting());
        if deleting {
            self.drain(holder);
        }
        if first {
            self.remember_again(number);
        }
        for host in self
            .host_objects
            .get(number)
            .map(|record| record.hosts.clone())
            .unwrap_or_default()
        {
            self.agenda.look_at(Item::Stops(host));
        }
        self.agenda.look_at(Item::Host(number));
    }

    /// The object of a host is deleted: it gets nothing more, and what it has goes elsewhere.
    fn drain(&mut self, number: u32) {
        let now = self.now;
        let Some(host) = self.fleet.get_mut(number) else {
            return;
        };
        if host.drained_since.is_none() {
            host.drained_since = Some(now);
            self.workloads_of_host_changed(number);
            self.host_changed(number);
        }
    }

    pub(super) fn host_object_removed(&mut self, key: &Key) {
        let object = self.host_objects.number(key);
        let Some(record) = self.host_objects.remove(key) else {
            return;
        };
        let hold = self.now + self.options.timings.drain_hold;
        for number in record.hosts.iter().copied() {
            let Some(host) = self.fleet.get_mut(number) else {
                continue;
            };
            if host.object != object {
                // It only remembered for that one.
                continue;
            }
            (host.object, host.is_named) = (None, false);
            host.shadow.clone_from(&record.kept.object);
            if host.drained_since.take().is_some() {
                host.hold_until = hold;
                self.fleet.held.insert((hold, number));
                self.agenda.look_by(Item::Placement, hold);
            }
            self.agenda.look_at(Item::Stops(number));
            self.host_changed(number);
        }
    }

    /// A host has less to do, which its object may have waited for.
    pub(in crate::core) fn look_at_object_of(&mut self, host: u32) {
        if let Some(object) = self.fleet.get(host).and_then(|host| host.object) {
            self.agenda.look_at(Item::Host(object));
        }
    }

    pub(super) fn look_at_host_object(&mut self, number: u32) {
        let Some(record) = self.host_objects.get(number) else {
            return;
        };
        let item = Item::Host(number);
        if !record.kept.is_free(self.now) {
            return self.agenda.look_again(item, record.kept.free_at(self.now));
        }
        if !self.has_handed_over(number) {
            // The object that is to remember may go, and then another has to.
            let soon = self.now + self.options.timings.write_retry;
            return self.agenda.look_again(item, Some(soon));
        }
        let Some(record) = self.host_objects.get(number) else {
            return;
        };
        let wake = match self.next_host_write(record) {
            HostWrite::Nothing(wake) => wake,
            HostWrite::Write(write) => {
                if matches!(*write, Write::Status { .. }) {
                    let now = self.now;
                    if let Some(record) = self.host_objects.get_mut(number) {
                        record.reported_at = now;
                    }
                }
                self.write(item, *write);
                None
            }
            HostWrite::Drop => {
                let key = record.key.clone();
                self.host_objects.remove(&key);
                None
            }
        };
        self.agenda.look_again(item, wake);
    }

    fn next_host_write(&self, record: &HostObject) -> HostWrite {
        let key = record.key.clone();
        let write = |write: Write| HostWrite::Write(Box::new(write));
        let Some(object) = &record.kept.object else {
            return match self.wanted_host(record) {
                Some(wanted) => write(Write::ApplyHost(wanted)),
                None if record.deleting => HostWrite::Drop,
                None => HostWrite::Nothing(None),
            };
        };
        let uid = object.metadata.uid.clone();
        let finalized = object.metadata.has_finalizer(names::HOST_FINALIZER);
        if object.metadata.is_deleting() {
            let remove_finalizer = Some(names::HOST_FINALIZER);
            let patch = MetadataPatch {
                remove_finalizer,
                ..MetadataPatch::default()
            };
            return match finalized && (record.deleting || self.is_empty_or_lost(record)) {
                true => write(Write::Metadata { key, uid, patch }),
                false => HostWrite::Nothing(None),
            };
        }
        if record.deleting {
            return write(Write::Delete { key, uid });
        }
        if let Some(patch) = self.host_metadata_patch(record, finalized) {
            return write(Write::Metadata { key, uid, patch });
        }
        if let Some(wanted) = self.wanted_host(record)
            && !is_as_wanted(object, &wanted)
        {
            return write(Write::ApplyHost(wanted));
        }
        match self.wanted_host_status(record, object) {
            Ok(status) => write(Write::status(key, uid, Status::Host(status))),
            Err(wake) => HostWrite::Nothing(wake),
        }
    }

    /// Whether a deleted object can be let go: nothing is on its host any more, or nothing can be done
    /// about it.
    fn is_empty_or_lost(&self, record: &HostObject) -> bool {
        let Some(host) = self.fleet.get(record.holder) else {
            return true;
        };
        // What is to go counts as well: its stop begins once the store knows, and needs to be remembered.
        let is_there = |workload: &Workload| {
            let place = workload.place.as_ref();
            workload.may_run() && place.is_some_and(|place| place.host == record.holder)
        };
        // Of the same name, and come since: it was not meant.
        let is_another = host.drained_since.is_none();
        host.is_lost()
            || is_another
            || (host.workloads.is_empty()
                && host.stops.is_empty()
                && !self.workloads.iter().any(|(_, it)| is_there(it)))
    }

    fn host_metadata_patch(&self, record: &HostObject, finalized: bool) -> Option<MetadataPatch> {
        let mut patch = MetadataPatch {
            add_finalizer: (!finalized).then_some(names::HOST_FINALIZER),
            ..MetadataPatch::default()
        };
        let to_stop = self.to_stop(record);
        if to_stop != record.remembered {
            patch.annotations.extend([memory::annotation(&to_stop)]);
        }
        (patch != MetadataPatch::default()).then_some(patch)
    }

    fn wanted_host(&self, record: &HostObject) -> Option<Object> {
        let Some(report) = self.fleet.get(record.holder)?.report.as_ref() else {
            return self.shadow(record);
        };
        let mut metadata = Metadata::named(&*record.key.namespace, &*record.key.name);
        metadata.labels = report.labels.clone().into_iter().collect();
        metadata.finalizers = vec![names::HOST_FINALIZER.to_owned()];
        let host = api::Host {
            metadata,
            host_id: report.id.clone(),
            hostname: report.hostname.clone(),
            http_port: report.http_port,
            environment: report.environment.clone(),
            ..api::Host::default()
        };
        Some(Object::Host(Arc::new(host)))
    }

    /// What its object was before somebody deleted it, of a host that was not heard since.
    fn shadow(&self, record: &HostObject) -> Option<Object> {
        let holder = self.fleet.get(record.holder)?;
        let shadow = holder.shadow.as_ref();
        let mut host = api::Host::clone(shadow.filter(|_| record.kept.object.is_none())?);
        let mut metadata = Metadata::named(&*record.key.namespace, &*record.key.name);
        metadata.labels = std::mem::take(&mut host.metadata.labels);
        metadata.finalizers = vec![names::HOST_FINALIZER.to_owned()];
        (host.metadata, host.status) = (metadata, None);
        host.host_id = holder.id.to_string();
        Some(Object::Host(Arc::new(host)))
    }

    /// The status to write, or when to look again. Figures alone are written once a heartbeat at most.
    fn wanted_host_status(
        &self,
        record: &HostObject,
        object: &api::Host,
    ) -> Result<HostStatus, Option<Duration>> {
        let host = self.fleet.get(record.holder).ok_or(None)?;
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let mut changed = false;
        let generation = object.metadata.generation;
        for mut condition in host_conditions(host) {
            condition.observed_generation = generation;
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        let Some(report) = &host.report else {
            return if changed { Ok(status) } else { Err(None) };
        };
        enter_report(&mut status, report);
        let identity = |status: &HostStatus| {
            let HostStatus {
                version,
                os_arch,
                os_name,
                os_kernel,
                ..
            } = status;
            [version, os_arch, os_name, os_kernel].map(String::clone)
        };
        changed |= identity(&before) != identity(&status);
        let figures = before != status;
        status.last_seen = Some(self.timestamp());
        let due = record.reported_at + self.options.timings.report_interval;
        match changed || (figures && self.now >= due) {
            true => Ok(status),
            false => Err(figures.then_some(due)),
        }
    }

    pub(super) fn host_object_written(
        &mut self,
        number: u32,
        result: Result<Arc<api::Host>, WriteError>,
    ) {
        let Some(record) = self.host_objects.get_mut(number) else {
            return;
        };
        let error = result.as_ref().err();
        record
            .kept
            .end(self.now, self.options.timings.write_retry, error);
        let key = record.key.clone();
        match result {
            Ok(object) => self.apply_host_object(object),
            Err(WriteError::NotFound) => self.host_object_removed(&key),
            Err(_) => {}
        }
        self.agenda.look_at(Item::Host(number));
    }
}

enum HostWrite {
    Nothing(Option<Duration>),
    Write(Box<Write>),
    Drop,
}

fn is_as_wanted(object: &api::Host, wanted: &Object) -> bool {
    let Object::Host(wanted) = wanted else {
        return true;
    };
    object.metadata.labels == wanted.metadata.labels
        && object.host_id == wanted.host_id
        && object.hostname == wanted.hostname
        && object.http_port == wanted.http_port
        && object.environment == wanted.environment
}

fn host_conditions(host: &Host) -> [Condition; 2] {
    use ConditionStatus::{False, True, Unknown};
    let (status, reason, message) = match (host.health, host.reason, host.report.is_some()) {
        (Health::Alive, _, true) => (True, "Available", ""),
        (Health::Alive, _, false) => (Unknown, "Reconcile", "no heartbeat was heard yet"),
        (Health::Suspect, Some(Reason::NoResponders), _) => (
            Unknown,
            "Reconcile",
            "nobody listens under its id at the moment",
        ),
        (Health::Suspect, ..) => (Unknown, "Reconcile", "it has been silent for a while"),
        (Health::Lost, Some(Reason::NoResponders), _) => (False, "Lost", "the process is gone"),
        (Health::Lost, ..) => (False, "Lost", "it has been silent for too long"),
    };
    let (ready, why, what) = match (status, host.drained_since) {
        (True, Some(_)) => (
            False,
            "Draining",
            "its object is deleted; it gets no workloads",
        ),
        _ => (status, reason, message),
    };
    [
        Condition::new(names::host::REPORTING, status, reason, message),
        Condition::new(names::host::READY, ready, why, what),
    ]
}

fn enter_report(status: &mut HostStatus, report: &HostReport) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    status.version.clone_from(&report.version);
    if Breakage::PlaceholderFigures.is_on() {
        status.version = "unknown".to_owned();
    }
    status.os_arch.clone_from(&report.os_arch);
    status.os_name.clone_from(&report.os_name);
    status.os_kernel.clone_from(&report.os_kernel);
    status.system_cpu_usage = report.system_cpu_usage.to_string();
    status.system_memory_total = signed(report.system_memory_total);
    status.system_memory_free = signed(report.system_memory_free);
    status.component_count = signed(report.component_count);
    status.workload_count = signed(report.workload_count);
}
