//! The Host objects: they are created and updated from heartbeats, their deletion drains the host,
//! and they record the pending stops of lost hosts. Times are durations since an arbitrary start.

mod metadata;
mod stop_ledger;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use berth_sdk::scheduler::{Health, Reason};

use super::cached_object::CachedObject;
use super::fleet::Host;
use super::work_queue::WorkItem;
use super::workload::Workload;
use super::{MetadataPatch, Scheduler, Status, StoreError, Write};
use crate::api::{
    self, Condition, ConditionStatus, HostStatus, Key, Kind, Metadata, Object, condition, names,
    set_condition,
};
use crate::fault_injection::Breakage;

/// One Host object. Its name is the friendly name of its host, if that is a valid name. It may
/// describe several hosts of this name, one after another.
#[derive(Debug)]
pub(super) struct HostObject {
    pub key: Key,
    pub cached: CachedObject<api::Host>,
    /// The host that the object describes.
    current_host: u32,
    /// Every host that has used this name and may have pending stops.
    hosts: BTreeSet<u32>,
    recorded_stops: stop_ledger::StopLedger,
    status_written_at: Duration,
    /// Whether every host is forgotten, so that the object is to be deleted.
    is_obsolete: bool,
    /// Hosts for which a conflict about this name was reported.
    conflict_reported: BTreeSet<u32>,
}

impl HostObject {
    pub fn uid(&self) -> String {
        let object = self.cached.object.as_ref();
        object.map_or_else(String::new, |object| object.metadata.uid.clone())
    }

    fn accept(&mut self, object: Arc<api::Host>) -> bool {
        let is_newer = self.cached.accept(object, |host| &host.metadata);
        if let Some(object) = self.cached.object.as_ref().filter(|_| is_newer) {
            self.recorded_stops = stop_ledger::read(object);
        }
        is_newer
    }
}

impl Scheduler {
    /// Finds or adds the object for the friendly name of a host. A name belongs to its first host
    /// until that host is lost.
    pub(super) fn assign_host_object(&mut self, host_index: u32) {
        let Some(heartbeat) = self
            .fleet
            .get(host_index)
            .and_then(|host| host.last_heartbeat.as_ref())
        else {
            return;
        };
        let namespace = self.options.host_namespace.as_str();
        let name = metadata::object_name(&heartbeat.friendly_name);
        let key = Key::new(Kind::Host, namespace, name);
        let object = match self.host_objects.index(&key) {
            Some(object) => object,
            None => self.new_host_object(key, host_index),
        };
        let Some(record) = self.host_objects.get(object) else {
            return;
        };
        let current_host = record.current_host;
        let is_free =
            current_host != host_index && self.fleet.get(current_host).is_none_or(Host::is_lost);
        if current_host == host_index || is_free {
            self.claim_name(object, host_index);
        } else {
            self.report_name_conflict(object, host_index);
        }
    }

    fn new_host_object(&mut self, key: Key, current_host: u32) -> u32 {
        let record = HostObject {
            key: key.clone(),
            cached: CachedObject::default(),
            current_host,
            hosts: BTreeSet::new(),
            recorded_stops: stop_ledger::StopLedger::new(),
            status_written_at: Duration::ZERO,
            is_obsolete: false,
            conflict_reported: BTreeSet::new(),
        };
        self.host_objects.insert(key, record)
    }

    fn claim_name(&mut self, object: u32, host_index: u32) {
        let mut previous = None;
        if let Some(record) = self.host_objects.get_mut(object) {
            previous = Some(std::mem::replace(&mut record.current_host, host_index));
            record.hosts.insert(host_index);
            record.is_obsolete = false;
        }
        if let Some(previous) = previous.filter(|previous| *previous != host_index)
            && let Some(previous) = self.fleet.get_mut(previous)
        {
            previous.owns_object = false;
        }
        let Some(host) = self.fleet.get_mut(host_index) else {
            return;
        };
        let owned_object = std::mem::replace(&mut host.owns_object, true);
        let is_new = host.object.replace(object) != Some(object) || !owned_object;
        self.queue.enqueue(WorkItem::HostObject(object));
        if is_new {
            self.on_host_changed(host_index);
        }
    }

    /// Reports that two hosts use one name. They count as two hosts (SCHED-REG-004), but the object
    /// describes the first one while it is alive; otherwise the object would flap.
    fn report_name_conflict(&mut self, object: u32, host_index: u32) {
        let Some(record) = self.host_objects.get_mut(object) else {
            return;
        };
        if !record.conflict_reported.insert(host_index) {
            return;
        }
        // The object records the pending stops of both hosts.
        record.hosts.insert(host_index);
        let (key, uid) = (record.key.clone(), record.uid());
        let mut id = None;
        if let Some(host) = self.fleet.get_mut(host_index) {
            host.object.get_or_insert(object);
            id = Some(host.id.clone());
        }
        let message = format!(
            "host {} has the name of another live host and gets no object",
            id.unwrap_or_default()
        );
        self.record_warning(key, uid, "NameTaken", message);
    }

    /// Applies a Host object from the store.
    pub(super) fn on_host_object_applied(&mut self, object: Arc<api::Host>) {
        let key = Object::Host(object.clone()).key();
        if &*key.namespace != self.options.host_namespace.as_str() || object.host_id.is_empty() {
            return;
        }
        let conditions = object
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let was_lost = conditions
            .and_then(|conditions| condition(conditions, names::host::READY))
            .is_some_and(|ready| ready.status == ConditionStatus::False);
        let object_index = match self.host_objects.index(&key) {
            Some(object_index) => object_index,
            None => {
                let current_host = self.ensure_host(&object.host_id, was_lost);
                let object_index = self.new_host_object(key, current_host);
                self.claim_name(object_index, current_host);
                object_index
            }
        };
        let Some(record) = self.host_objects.get_mut(object_index) else {
            return;
        };
        let is_new = record.cached.object.is_none();
        if !record.accept(object) {
            return;
        }
        let (current_host, object) = (record.current_host, record.cached.object.as_ref());
        let is_deleting = object.is_some_and(|object| object.metadata.is_deleting());
        if is_deleting {
            self.drain(current_host);
        }
        if is_new {
            self.restore_pending_stops(object_index);
        }
        for host in self
            .host_objects
            .get(object_index)
            .map(|record| record.hosts.clone())
            .unwrap_or_default()
        {
            self.queue.enqueue(WorkItem::Stops(host));
        }
        self.queue.enqueue(WorkItem::HostObject(object_index));
    }

    /// Drains a host whose object was deleted: it gets no new workloads, and its workloads move to
    /// other hosts.
    fn drain(&mut self, host_index: u32) {
        let now = self.now;
        let Some(host) = self.fleet.get_mut(host_index) else {
            return;
        };
        if host.drained_since.is_none() {
            host.drained_since = Some(now);
            self.enqueue_workloads_of_host(host_index);
            self.on_host_changed(host_index);
        }
    }

    pub(super) fn on_host_object_removed(&mut self, key: &Key) {
        let object = self.host_objects.index(key);
        let Some(record) = self.host_objects.remove(key) else {
            return;
        };
        let cordoned_until = self.now + self.options.timings.cordon_after_drain;
        for host_index in record.hosts.iter().copied() {
            let Some(host) = self.fleet.get_mut(host_index) else {
                continue;
            };
            if host.object != object {
                // The object only recorded the pending stops of this host.
                continue;
            }
            (host.object, host.owns_object) = (None, false);
            host.tombstone.clone_from(&record.cached.object);
            if host.drained_since.take().is_some() {
                host.cordoned_until = cordoned_until;
                self.fleet.cordoned.insert((cordoned_until, host_index));
                self.queue.enqueue_at(WorkItem::Placement, cordoned_until);
            }
            self.queue.enqueue(WorkItem::Stops(host_index));
            self.on_host_changed(host_index);
        }
    }

    /// Enqueues the object of a host after a workload has left the host, because a drain may wait
    /// for that.
    pub(in crate::core) fn enqueue_host_object_of(&mut self, host: u32) {
        if let Some(object) = self.fleet.get(host).and_then(|host| host.object) {
            self.queue.enqueue(WorkItem::HostObject(object));
        }
    }

    pub(super) fn reconcile_host_object(&mut self, object_index: u32) {
        let Some(record) = self.host_objects.get(object_index) else {
            return;
        };
        let item = WorkItem::HostObject(object_index);
        if !record.cached.can_write(self.now) {
            return self
                .queue
                .reschedule(item, record.cached.next_write_at(self.now));
        }
        if !self.transfer_stops(object_index) {
            // The other object may be deleted before it records the stops, and a third object then
            // records them.
            let retry_at = self.now + self.options.timings.write_retry;
            return self.queue.reschedule(item, Some(retry_at));
        }
        let Some(record) = self.host_objects.get(object_index) else {
            return;
        };
        let wake = match self.next_host_write(record) {
            HostWrite::Wait(wake) => wake,
            HostWrite::Write(write) => {
                if matches!(*write, Write::Status { .. }) {
                    let now = self.now;
                    if let Some(record) = self.host_objects.get_mut(object_index) {
                        record.status_written_at = now;
                    }
                }
                self.write(item, *write);
                None
            }
            HostWrite::Forget => {
                let key = record.key.clone();
                self.host_objects.remove(&key);
                None
            }
        };
        self.queue.reschedule(item, wake);
    }

    fn next_host_write(&self, record: &HostObject) -> HostWrite {
        let key = record.key.clone();
        let write = |write: Write| HostWrite::Write(Box::new(write));
        let Some(object) = &record.cached.object else {
            return match self.desired_host(record) {
                Some(desired) => write(Write::ApplyHost(desired)),
                None if record.is_obsolete => HostWrite::Forget,
                None => HostWrite::Wait(None),
            };
        };
        let uid = object.metadata.uid.clone();
        let has_finalizer = object.metadata.has_finalizer(names::HOST_FINALIZER);
        if object.metadata.is_deleting() {
            let remove_finalizer = Some(names::HOST_FINALIZER);
            let patch = MetadataPatch {
                remove_finalizer,
                ..MetadataPatch::default()
            };
            let is_drained = record.is_obsolete || self.is_empty_or_lost(record);
            return if has_finalizer && is_drained {
                write(Write::Metadata { key, uid, patch })
            } else {
                HostWrite::Wait(None)
            };
        }
        if record.is_obsolete {
            return write(Write::Delete { key, uid });
        }
        if let Some(patch) = self.host_metadata_patch(record, has_finalizer) {
            return write(Write::Metadata { key, uid, patch });
        }
        if let Some(desired) = self.desired_host(record)
            && !matches_desired(object, &desired)
        {
            return write(Write::ApplyHost(desired));
        }
        match self.desired_host_status(record, object) {
            Ok(status) => write(Write::status(key, uid, Status::Host(status))),
            Err(wake) => HostWrite::Wait(wake),
        }
    }

    /// Returns whether the finalizer of a deleted object may be removed: its host is empty, or
    /// lost.
    fn is_empty_or_lost(&self, record: &HostObject) -> bool {
        let Some(host) = self.fleet.get(record.current_host) else {
            return true;
        };
        // Discarded workloads count, too: their stop begins once their deletion is written to the
        // store, and must be recorded.
        let is_on_host = |workload: &Workload| {
            let assignment = workload.assignment.as_ref();
            workload.may_be_running()
                && assignment.is_some_and(|assignment| assignment.host == record.current_host)
        };
        // A host of the same name may have joined after the deletion, which does not drain it.
        let joined_after_deletion = host.drained_since.is_none();
        host.is_lost()
            || joined_after_deletion
            || (host.workloads.is_empty()
                && host.stops.is_empty()
                && !self.workloads.iter().any(|(_, it)| is_on_host(it)))
    }

    fn host_metadata_patch(
        &self,
        record: &HostObject,
        has_finalizer: bool,
    ) -> Option<MetadataPatch> {
        let mut patch = MetadataPatch {
            add_finalizer: (!has_finalizer).then_some(names::HOST_FINALIZER),
            ..MetadataPatch::default()
        };
        let ledger = self.desired_ledger(record);
        if ledger != record.recorded_stops {
            patch.annotations.extend([stop_ledger::annotation(&ledger)]);
        }
        (patch != MetadataPatch::default()).then_some(patch)
    }

    fn desired_host(&self, record: &HostObject) -> Option<Object> {
        let Some(heartbeat) = self.fleet.get(record.current_host)?.last_heartbeat.as_ref() else {
            return self.host_from_tombstone(record);
        };
        let mut metadata = Metadata::named(&*record.key.namespace, &*record.key.name);
        metadata.labels = metadata::object_labels(&heartbeat.labels);
        metadata.finalizers = vec![names::HOST_FINALIZER.to_owned()];
        let host = api::Host {
            metadata,
            host_id: heartbeat.id.clone(),
            hostname: heartbeat.hostname.clone(),
            http_port: heartbeat.http_port,
            environment: heartbeat.environment.clone(),
            ..api::Host::default()
        };
        Some(Object::Host(Arc::new(host)))
    }

    /// Returns the deleted object of a host that has sent no heartbeat since this scheduler
    /// started.
    fn host_from_tombstone(&self, record: &HostObject) -> Option<Object> {
        let current_host = self.fleet.get(record.current_host)?;
        let tombstone = current_host.tombstone.as_ref();
        let mut host = api::Host::clone(tombstone.filter(|_| record.cached.object.is_none())?);
        let mut metadata = Metadata::named(&*record.key.namespace, &*record.key.name);
        metadata.labels = std::mem::take(&mut host.metadata.labels);
        metadata.finalizers = vec![names::HOST_FINALIZER.to_owned()];
        (host.metadata, host.status) = (metadata, None);
        host.host_id = current_host.id.to_string();
        Some(Object::Host(Arc::new(host)))
    }

    /// Returns the status to write, or when to check again. Changes of figures (CPU, memory,
    /// counts) are written at intervals.
    fn desired_host_status(
        &self,
        record: &HostObject,
        object: &api::Host,
    ) -> Result<HostStatus, Option<Duration>> {
        let host = self.fleet.get(record.current_host).ok_or(None)?;
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let mut changed = false;
        let generation = object.metadata.generation;
        for mut condition in host_conditions(host) {
            condition.observed_generation = generation;
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        let Some(heartbeat) = &host.last_heartbeat else {
            return if changed { Ok(status) } else { Err(None) };
        };
        apply_heartbeat(&mut status, heartbeat);
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
        let figures_changed = before != status;
        status.last_seen = Some(self.timestamp());
        let due = record.status_written_at + self.options.timings.figures_write_interval;
        if changed || (figures_changed && self.now >= due) {
            Ok(status)
        } else {
            Err(figures_changed.then_some(due))
        }
    }

    pub(super) fn on_host_object_written(
        &mut self,
        object_index: u32,
        result: Result<Arc<api::Host>, StoreError>,
    ) {
        let Some(record) = self.host_objects.get_mut(object_index) else {
            return;
        };
        let error = result.as_ref().err();
        record
            .cached
            .end_write(self.now, self.options.timings.write_retry, error);
        let key = record.key.clone();
        match result {
            Ok(object) => self.on_host_object_applied(object),
            Err(StoreError::NotFound) => self.on_host_object_removed(&key),
            Err(_) => {}
        }
        self.queue.enqueue(WorkItem::HostObject(object_index));
    }
}

enum HostWrite {
    Wait(Option<Duration>),
    Write(Box<Write>),
    Forget,
}

fn matches_desired(object: &api::Host, desired: &Object) -> bool {
    let Object::Host(desired) = desired else {
        return true;
    };
    object.metadata.labels == desired.metadata.labels
        && object.host_id == desired.host_id
        && object.hostname == desired.hostname
        && object.http_port == desired.http_port
        && object.environment == desired.environment
}

fn host_conditions(host: &Host) -> [Condition; 2] {
    use ConditionStatus::{False, True, Unknown};
    let (status, reason, message) = match (host.health, host.reason, host.last_heartbeat.is_some())
    {
        (Health::Alive, _, true) => (True, "Available", ""),
        (Health::Alive, _, false) => (Unknown, "Reconcile", "no heartbeat yet"),
        (Health::Suspect, Some(Reason::NoResponders), _) => {
            (Unknown, "Reconcile", "no responders at the moment")
        }
        (Health::Suspect, ..) => (Unknown, "Reconcile", "no recent heartbeat"),
        (Health::Lost, Some(Reason::NoResponders), _) => (False, "Lost", "the process is gone"),
        (Health::Lost, ..) => (False, "Lost", "no heartbeat and no reply for too long"),
    };
    let (ready, ready_reason, ready_message) = match (status, host.drained_since) {
        (True, Some(_)) => (
            False,
            "Draining",
            "the Host object is deleted; the host gets no workloads",
        ),
        _ => (status, reason, message),
    };
    [
        Condition::new(names::host::REPORTING, status, reason, message),
        Condition::new(names::host::READY, ready, ready_reason, ready_message),
    ]
}

fn apply_heartbeat(status: &mut HostStatus, heartbeat: &HostHeartbeat) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    status.version.clone_from(&heartbeat.version);
    if Breakage::PlaceholderHostStatus.is_on() {
        status.version = "unknown".to_owned();
    }
    status.os_arch.clone_from(&heartbeat.os_arch);
    status.os_name.clone_from(&heartbeat.os_name);
    status.os_kernel.clone_from(&heartbeat.os_kernel);
    status.system_cpu_usage = heartbeat.system_cpu_usage.to_string();
    status.system_memory_total = signed(heartbeat.system_memory_total);
    status.system_memory_free = signed(heartbeat.system_memory_free);
    status.component_count = signed(heartbeat.component_count);
    status.workload_count = signed(heartbeat.workload_count);
}
