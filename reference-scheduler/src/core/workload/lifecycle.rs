//! The lifecycle of an incarnation: it is adopted or bound to a host, terminated there, and
//! restarted or released. Times are durations since an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use super::placement_record::{self, PlacementRecord};
use super::{Assignment, Phase, Workload};
use crate::api::{self, names};
use crate::core::Scheduler;
use crate::core::work_queue::{DEBOUNCE, WorkItem};
use crate::fault_injection::Breakage;

/// Time for which a host on which a workload failed is avoided while other hosts are feasible.
const AVOID_PERIOD: Duration = Duration::from_secs(300);

/// Interval between the first status polls of adopted workloads.
const ADOPTION_STAGGER: Duration = Duration::from_millis(5);

/// Number of adopted workloads whose first status polls are staggered. The next workload is polled
/// together with the first one.
const ADOPTION_POLLS: u32 = 4096;

impl Workload {
    /// Returns whether the incarnation may be running on its host. No start of a bound incarnation
    /// was sent.
    pub fn may_be_running(&self) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Unrecorded | Phase::Failed { gone: true } => false,
            Phase::Starting => self.dispatch.start_may_have_arrived(),
            _ => true,
        }
    }

    pub(in crate::core) fn is_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed { .. })
    }
}

impl Scheduler {
    /// Adopts the incarnation that an earlier or another scheduler recorded in the object, without
    /// a start or a stop.
    pub(in crate::core) fn adopt(&mut self, workload_index: u32, object: &api::Workload) {
        if Breakage::NoAdoption.is_on() {
            return;
        }
        if let Some(host) = placement_record::created_on_host(object) {
            return self.adopt_unverified(workload_index, object, host);
        }
        let Some(status) = &object.status else {
            return;
        };
        let restarts = restarts_of(&object.metadata.uid, &status.workload_id);
        if status.host_id.is_empty() {
            // Between two incarnations. The previous id is not reused.
            if let Some(record) = self.workloads.get_mut(workload_index) {
                record.restarts = restarts.map_or(0, |restarts| restarts + 1);
            }
            return;
        }
        let lost = false;
        let host = self.ensure_host(&status.host_id, lost);
        let is_true = |name| api::is_true(&status.conditions, name);
        let placement = api::condition(&status.conditions, names::workload::PLACEMENT);
        let ready = api::condition(&status.conditions, names::workload::READY);
        let sync = api::condition(&status.conditions, names::workload::SYNC);
        let phase = match (
            is_true(names::workload::PLACEMENT),
            is_true(names::workload::SYNC),
        ) {
            (true, true)
                if ready.is_some_and(|ready| ready.reason == super::status::COMPLETED_REASON) =>
            {
                Phase::Completed
            }
            (true, true) => Phase::Running,
            (_, false) if sync.is_some_and(|sync| sync.reason == super::status::FAILED_REASON) => {
                Phase::Failed { gone: false }
            }
            (true, false) => Phase::Accepted,
            (false, _) => Phase::Starting,
        };
        let generation = placement.map_or(0, |placement| placement.observed_generation);
        let generation = match generation {
            0 => object.metadata.generation,
            observed => observed,
        };
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let id: Arc<str> = match status.workload_id.as_str() {
            "" => record.uid.clone(),
            id => id.into(),
        };
        record.restarts = restarts.unwrap_or(0);
        record.message = ready.map_or_else(String::new, |ready| ready.message.clone());
        let was_accepted = phase != Phase::Starting;
        let assignment = Assignment::new(host, id, generation);
        self.adopt_assignment(
            workload_index,
            Assignment {
                was_accepted,
                ..assignment
            },
            phase,
        );
    }

    /// Adopts a workload that was created with an annotation for this host and has no status yet.
    fn adopt_unverified(&mut self, workload_index: u32, object: &api::Workload, host_id: &str) {
        let lost = false;
        let host = self.ensure_host(host_id, lost);
        let metadata = &object.metadata;
        let assignment = Assignment::new(host, metadata.uid.as_str().into(), metadata.generation);
        self.adopt_assignment(
            workload_index,
            Assignment {
                record: PlacementRecord::Unverified,
                ..assignment
            },
            Phase::Starting,
        );
    }

    fn adopt_assignment(&mut self, workload_index: u32, assignment: Assignment, phase: Phase) {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        (record.assignment, record.phase) = (Some(assignment), phase);
        record
            .dispatch
            .adopt(now, ADOPTION_STAGGER * (workload_index % ADOPTION_POLLS));
        self.add_to_counts(workload_index);
    }

    /// Assigns a host. The start is sent after the assignment is recorded in the store.
    pub(in crate::core) fn bind(&mut self, workload_index: u32, host: u32) {
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let object = record.cached.object.clone();
        let generation = object.as_ref().map_or(0, |it| it.metadata.generation);
        record.assignment = Some(Assignment {
            content: object,
            ..Assignment::new(host, record.next_id(), generation)
        });
        (record.phase, record.unschedulable) = (Phase::Unrecorded, None);
        record.dispatch = super::Dispatch::default();
        record.message.clear();
        self.waiting.remove(&workload_index);
        self.add_to_counts(workload_index);
        self.queue.enqueue(WorkItem::Workload(workload_index));
    }

    /// Includes the assignment in the counts that placement uses.
    pub(super) fn add_to_counts(&mut self, workload_index: u32) {
        let set = self.set_index_of(workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let Some(assignment) = record
            .assignment
            .as_mut()
            .filter(|assignment| !assignment.counted)
        else {
            return;
        };
        assignment.counted = true;
        let host = assignment.host;
        for image in record.images() {
            let hosts = self.image_hosts.entry(image.to_owned()).or_default();
            *hosts.entry(host).or_default() += 1;
        }
        if let Some(set) = set.and_then(|set| self.sets.get_mut(set)) {
            set.spread.add(host);
        }
        if let Some(record) = self.fleet.get_mut(host) {
            record.workloads.insert(workload_index);
            // Hosts without a limit are reindexed lazily.
            if record.is_limited() {
                self.feasible_hosts.refresh(host, &self.fleet, self.now);
            }
        }
    }

    /// Removes the assignment from the counts that placement uses.
    pub(in crate::core) fn remove_from_counts(&mut self, workload_index: u32) {
        let set = self.set_index_of(workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let Some(assignment) = record
            .assignment
            .as_mut()
            .filter(|assignment| assignment.counted)
        else {
            return;
        };
        assignment.counted = false;
        let host = assignment.host;
        for image in record.images() {
            let Some(hosts) = self.image_hosts.get_mut(image) else {
                continue;
            };
            if let Some(count) = hosts.get_mut(&host) {
                *count -= 1;
                if *count == 0 {
                    hosts.remove(&host);
                }
            }
            if hosts.is_empty() {
                self.image_hosts.remove(image);
            }
        }
        if let Some(set) = set.and_then(|set| self.sets.get_mut(set)) {
            set.spread.remove(host);
        }
        if let Some(record) = self.fleet.get_mut(host) {
            record.workloads.remove(&workload_index);
            let object = record.object;
            self.feasible_hosts.refresh(host, &self.fleet, self.now);
            if let Some(object) = object {
                self.queue.enqueue(WorkItem::HostObject(object));
            }
        }
        if !self.waiting.is_empty() {
            let at = self.now + self.options.timings.placement_delay;
            self.queue.enqueue_at(WorkItem::Placement, at);
        }
    }

    /// Advances a workload as far as possible and returns when to check again.
    pub(in crate::core) fn advance(&mut self, workload_index: u32) -> Option<Duration> {
        let record = self.workloads.get(workload_index)?;
        let object = record.cached.object.as_ref()?;
        if object.metadata.is_deleting() {
            self.release(workload_index);
            return None;
        }
        if record.is_discarded {
            return None;
        }
        if !record.may_be_running() && self.is_orphaned(workload_index) {
            self.waiting.remove(&workload_index);
            return None;
        }
        let Some(assignment) = &record.assignment else {
            if record.needs_host() && self.waiting.insert(workload_index) {
                self.queue.enqueue(WorkItem::Placement);
            }
            return None;
        };
        if record.owner.is_none() && self.is_outdated(workload_index) {
            self.terminate(workload_index);
            return self.advance(workload_index);
        }
        let record = self.workloads.get(workload_index)?;
        let assignment = record.assignment.as_ref().unwrap_or(assignment);
        if record.phase == Phase::Terminating {
            self.finish_termination(workload_index);
            return None;
        }
        let is_lost = self
            .fleet
            .get(assignment.host)
            .is_none_or(|host| host.is_lost());
        if is_lost {
            self.advance_on_lost_host(workload_index)
        } else {
            self.advance_on_live_host(workload_index)
        }
    }

    /// Advances a workload on a lost host: its phase stays until another host is feasible.
    fn advance_on_lost_host(&mut self, workload_index: u32) -> Option<Duration> {
        let record = self.workloads.get(workload_index)?;
        if record.phase == Phase::Completed {
            return None;
        }
        // The store will delete the workload, and its incarnation is stopped then.
        if self.is_orphaned(workload_index) {
            return None;
        }
        let constraints = record.constraints.clone();
        if let Some(set) = self.set_index_of(workload_index) {
            self.awaiting_reschedule.insert(workload_index);
            self.queue.enqueue(WorkItem::Set(set));
            return None;
        }
        if self.has_feasible_host(&constraints) {
            self.awaiting_reschedule.remove(&workload_index);
            self.terminate(workload_index);
            self.finish_termination(workload_index);
        } else {
            self.awaiting_reschedule.insert(workload_index);
        }
        None
    }

    fn advance_on_live_host(&mut self, workload_index: u32) -> Option<Duration> {
        self.awaiting_reschedule.remove(&workload_index);
        let record = self.workloads.get(workload_index)?;
        match record.phase {
            Phase::Waiting | Phase::Terminating | Phase::Completed => None,
            Phase::Unrecorded => {
                if self.is_recorded(workload_index)
                    && let Some(record) = self.workloads.get_mut(workload_index)
                {
                    record.phase = Phase::Starting;
                    return self.dispatch(workload_index);
                }
                None
            }
            Phase::Starting | Phase::Accepted | Phase::Running => self.dispatch(workload_index),
            Phase::Failed { .. } => self.advance_failed(workload_index),
        }
    }

    /// Restarts a failed workload without a replica set after a backoff, under another id. A failed
    /// workload of a replica set is replaced by the set.
    fn advance_failed(&mut self, workload_index: u32) -> Option<Duration> {
        let record = self.workloads.get(workload_index)?;
        if record.owner.is_some() {
            return None;
        }
        if !record.backoff.is_over(self.now) {
            return Some(record.backoff.next_at);
        }
        self.terminate(workload_index);
        self.finish_termination(workload_index);
        None
    }

    /// Returns whether the object has changed since the assignment, or the host is draining and
    /// another host fits.
    fn is_outdated(&self, workload_index: u32) -> bool {
        let Some(record) = self.workloads.get(workload_index) else {
            return false;
        };
        let (Some(object), Some(assignment)) = (&record.cached.object, &record.assignment) else {
            return false;
        };
        let same = assignment
            .content
            .as_ref()
            .is_some_and(|content| content.spec == object.spec);
        let drained = self
            .fleet
            .get(assignment.host)
            .is_some_and(|host| host.drained_since.is_some());
        let is_newer = object.metadata.generation > assignment.generation && !same;
        record.phase != Phase::Terminating
            && (is_newer || (drained && self.fits_elsewhere(workload_index)))
    }

    /// Returns whether another host fits; a draining host never does.
    fn fits_elsewhere(&self, workload_index: u32) -> bool {
        let Some(record) = self.workloads.get(workload_index) else {
            return false;
        };
        crate::core::placement::fits_anywhere(&record.constraints, &self.fleet, self.now)
    }

    /// Begins to terminate an incarnation. The workload is then restarted under another id.
    fn terminate(&mut self, workload_index: u32) {
        let item = WorkItem::Workload(workload_index);
        self.remove_from_counts(workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let may_be_running = record.may_be_running();
        record.phase = Phase::Terminating;
        let at = record.dispatch.earliest_stop_at();
        if let Some(assignment) = record.assignment.as_mut().filter(|_| may_be_running) {
            assignment.stop_requested = true;
            let (host, id) = (assignment.host, assignment.id.clone());
            self.request_stop(host, &id, Some(item), at);
        }
    }

    fn finish_termination(&mut self, workload_index: u32) {
        let Some(record) = self.workloads.get(workload_index) else {
            return;
        };
        let Some(assignment) = &record.assignment else {
            return;
        };
        let host = assignment.host;
        if self.has_stop_waiter(host, &assignment.id) {
            return;
        }
        if let Some(record) = self.workloads.get_mut(workload_index) {
            record.assignment = None;
            record.restarts += 1;
            record.phase = Phase::Waiting;
            record.dispatch = super::Dispatch::default();
        }
        self.enqueue_host_object_of(host);
        self.queue.enqueue(WorkItem::Workload(workload_index));
    }

    /// Releases a workload whose object is being deleted: the finalizer is removed when its id has
    /// stopped.
    fn release(&mut self, workload_index: u32) {
        self.remove_from_counts(workload_index);
        self.waiting.remove(&workload_index);
        self.awaiting_reschedule.remove(&workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let (may_be_running, at) = (record.may_be_running(), record.dispatch.earliest_stop_at());
        let Some(assignment) = &mut record.assignment else {
            return;
        };
        let (host, id) = (assignment.host, assignment.id.clone());
        if may_be_running && !assignment.stop_requested {
            assignment.stop_requested = true;
            self.request_stop(host, &id, Some(WorkItem::Workload(workload_index)), at);
        }
        if !self.has_stop_waiter(host, &id)
            && let Some(record) = self.workloads.get_mut(workload_index)
        {
            record.assignment = None;
            record.phase = Phase::Waiting;
            self.enqueue_host_object_of(host);
        }
    }

    /// Marks an incarnation as gone because another process with the same host id has replaced its
    /// host. Neither the workload nor the host counts as failed.
    pub(in crate::core) fn mark_gone(&mut self, workload_index: u32) {
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let is_active = matches!(
            record.phase,
            Phase::Starting | Phase::Accepted | Phase::Running
        );
        if is_active && record.may_be_running() {
            record.phase = Phase::Failed { gone: true };
            record.message = "the host was restarted".to_owned();
            self.on_workload_changed(workload_index);
        }
    }

    /// Marks an incarnation as failed: it does not run, and the host does not restart it.
    pub(in crate::core) fn mark_failed(&mut self, workload_index: u32, message: String) {
        self.enter_failed(workload_index, Phase::Failed { gone: false }, message);
    }

    /// Marks an incarnation as failed whose id the host no longer has.
    pub(in crate::core) fn mark_failed_and_gone(&mut self, workload_index: u32, message: String) {
        self.enter_failed(workload_index, Phase::Failed { gone: true }, message);
    }

    fn enter_failed(&mut self, workload_index: u32, failed: Phase, message: String) {
        let (now, timings) = (self.now, self.options.timings);
        let set = self.set_index_of(workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        if record.is_failed() {
            return;
        }
        record.phase = failed;
        record.message.clone_from(&message);
        let Some(host) = record.assignment.as_ref().map(|assignment| assignment.host) else {
            return;
        };
        record.avoided.insert(host, now + AVOID_PERIOD);
        record.avoided.retain(|_, until| *until > now);
        record.backoff.record_failure(now, &timings);
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        if let Some(record) = set.and_then(|set| self.sets.get_mut(set)) {
            record.avoided.insert(host, now + AVOID_PERIOD);
            record.avoided.retain(|_, until| *until > now);
        }
        self.record_warning(key, uid, "Failed", message);
        self.on_workload_changed(workload_index);
    }

    /// Enqueues a workload and its replica set.
    pub(in crate::core) fn on_workload_changed(&mut self, workload_index: u32) {
        self.queue.enqueue(WorkItem::Workload(workload_index));
        if let Some(set) = self.set_index_of(workload_index) {
            self.queue
                .enqueue_at(WorkItem::Set(set), self.now + DEBOUNCE);
        }
    }
}

/// Returns the number of restarts before the incarnation with this id.
fn restarts_of(uid: &str, id: &str) -> Option<u32> {
    match id.strip_prefix(uid)?.strip_prefix('-') {
        Some(restarts) => restarts.parse().ok(),
        None => Some(0),
    }
}
