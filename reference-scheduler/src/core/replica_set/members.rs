//! The members of a replica set: creates and discards workloads to reach the desired number. Times
//! are durations since an arbitrary start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::scaling::{Member, ReplicaCondition, ScalingInputs, ScalingPlan};
use super::{ReplicaSet, child_name, name_suffix, object};
use crate::api::{self, DeployPolicy, Key, ReplicaCounts};
use crate::core::placement::SchedulingConstraints;
use crate::core::work_queue::{DEBOUNCE, WorkItem};
use crate::core::workload::Phase;
use crate::core::{Scheduler, fleet};
use crate::fault_injection::Breakage;

/// Maximum number of restored fences of a set, because the counts come from the store.
const MAX_RESTORED_FENCES: usize = 10_000;

impl Scheduler {
    fn has_recreate_policy(&self, set_index: u32) -> bool {
        let deployment = self
            .deployment_index_of(set_index)
            .and_then(|index| self.deployments.get(index));
        deployment.is_some_and(|deployment| deployment.policy() == Some(DeployPolicy::Recreate))
    }

    /// Restores the fences of an earlier process. Its counts show that replicas under Recreate are
    /// missing, and a host is lost: it may be the host of these replicas.
    pub(in crate::core) fn restore_fences(&mut self, set_index: u32) {
        let has_lost_host = self.fleet.iter().any(|(_, host)| host.is_lost());
        if !has_lost_host || !self.has_recreate_policy(set_index) {
            return;
        }
        let until = self.now + self.options.timings.fence;
        let counts = self
            .deployment_index_of(set_index)
            .and_then(|index| self.deployments.get(index)?.cached.object.as_ref())
            .and_then(|object| object.status.as_ref()?.replicas);
        let missing = counts.map_or(0, |counts| counts.expected - counts.current);
        let missing = usize::try_from(missing)
            .unwrap_or(0)
            .min(MAX_RESTORED_FENCES);
        if let Some(set) = self.sets.get_mut(set_index) {
            set.fences.extend(std::iter::repeat_n(until, missing));
        }
    }

    /// Returns whether the deployment of a set has no other wanted set.
    fn is_only_set(&self, set_index: u32) -> bool {
        let owner = self.sets.get(set_index).and_then(|set| set.owner.as_ref());
        let sets = owner
            .and_then(|owner| self.sets_by_deployment.get(owner))
            .into_iter()
            .flatten();
        let mut others = sets
            .filter(|set| **set != set_index)
            .filter_map(|set| self.sets.get(*set));
        !others.any(ReplicaSet::is_wanted)
    }

    /// Creates and discards workloads to reach the desired number, and returns when to check again.
    pub(super) fn scale_set(&mut self, set_index: u32) -> Option<Duration> {
        let (now, timings) = (self.now, self.options.timings);
        let recreate = self.has_recreate_policy(set_index);
        let is_only_set = self.is_only_set(set_index);
        let is_orphaned = self.is_orphaned_set(set_index);
        let set = self.sets.get_mut(set_index)?;
        set.cached.object.as_ref()?;
        set.fences.retain(|until| *until > now);
        // The store will delete a set whose deployment is gone, so such a set creates nothing.
        if !set.is_wanted() || set.is_invalid() || is_orphaned {
            return None;
        }
        let uid = set.uid.clone();
        let (members, terminating) = self.members_of(set_index, &uid);
        let set = self.sets.get(set_index)?;
        let inputs = ScalingInputs {
            replicas: set.replicas(),
            // In a rollout, the deployment has already distributed the surge.
            surge: if is_only_set {
                timings.surge(set.replicas())
            } else {
                0
            },
            stop_before_start: recreate,
            occupied_slots: terminating.assigned
                + u32::try_from(set.fences.len()).unwrap_or(u32::MAX),
            pending_deletions: terminating.pending_deletions,
        };
        let mut plan = inputs.plan(members);
        let mut wake = set
            .fences
            .iter()
            .copied()
            .chain(terminating.overdue_at)
            .chain(terminating.retry_at)
            .min();
        let resumes_at = set.limit_creations(&mut plan, now);
        wake = wake.into_iter().chain(resumes_at).min();
        for member in &plan.discard {
            self.discard_member(set_index, *member, recreate);
        }
        for _ in 0..plan.create {
            self.create_member(set_index);
        }
        if let Some(set) = self.sets.get_mut(set_index) {
            if plan.remaining + plan.create >= inputs.replicas {
                set.inherited_backoffs.clear();
            }
            let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
            let current = plan.remaining + plan.create;
            let counts = ReplicaCounts {
                expected: count(inputs.replicas),
                current: count(current),
                ready: count(plan.ready),
                unavailable: count(current.saturating_sub(plan.ready)),
            };
            if set.counts != counts || set.pending_deletions != plan.pending_deletions {
                (set.counts, set.pending_deletions) = (counts, plan.pending_deletions);
                if let Some(deployment) = self.deployment_index_of(set_index) {
                    self.queue
                        .enqueue_at(WorkItem::Deployment(deployment), now + DEBOUNCE);
                }
            }
        }
        wake
    }

    /// Counts the members of a set without changing them.
    pub(in crate::core) fn count_set(&mut self, set_index: u32) {
        let Some(uid) = self.sets.get(set_index).map(|set| set.uid.clone()) else {
            return;
        };
        let (members, terminating) = self.members_of(set_index, &uid);
        let ready = members
            .iter()
            .filter(|member| member.condition == ReplicaCondition::Ready)
            .count();
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(set) = self.sets.get_mut(set_index) {
            set.pending_deletions = terminating.pending_deletions;
            set.counts.current = count(members.len());
            set.counts.ready = count(ready);
        }
    }

    /// Returns the wanted members of a set, and counts of the terminating ones.
    fn members_of(&mut self, set_index: u32, uid: &Arc<str>) -> (Vec<Member>, TerminatingMembers) {
        let Some(set) = self.sets.get(set_index) else {
            return (Vec::new(), TerminatingMembers::default());
        };
        let revision = set.revision.clone();
        let (mut members, mut terminating) = (Vec::new(), TerminatingMembers::default());
        let mut infeasible_constraints = BTreeMap::new();
        let workload_indexes: Vec<u32> = self
            .members
            .get(uid)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for member in workload_indexes {
            let Some(record) = self.workloads.get(member) else {
                continue;
            };
            if !record.is_wanted() {
                terminating.assigned += u32::from(record.assignment.is_some());
                let host = record
                    .assignment
                    .as_ref()
                    .and_then(|assignment| self.fleet.get(assignment.host));
                let lost = host.is_some_and(fleet::Host::is_lost);
                terminating.pending_deletions += u32::from(record.is_pending_deletion() && !lost);
                continue;
            }
            let host_index = record.assignment.as_ref().map(|assignment| assignment.host);
            let host = host_index.and_then(|host| self.fleet.get(host));
            let lost = host_index.is_some() && host.is_none_or(|host| host.is_lost());
            let drained_since = host.and_then(|host| host.drained_since);
            let outdated = record.revision() != Some(revision.as_str()) || drained_since.is_some();
            let drain_timeout = self.options.timings.cordon_after_drain;
            let overdue = terminating
                .check_overdue(drained_since.map(|since| since + drain_timeout), self.now);
            let is_failed = matches!(record.phase, Phase::Failed { .. }) && !lost;
            let may_replace = record.backoff.is_over(self.now);
            if is_failed && !may_replace {
                let at = record.backoff.next_at;
                terminating.retry_at = terminating.retry_at.into_iter().chain([at]).min();
            }
            let condition = match record.phase {
                _ if is_failed && may_replace => ReplicaCondition::Failed,
                _ if is_failed => ReplicaCondition::BackingOff,
                Phase::Completed => ReplicaCondition::Ready,
                _ if lost => {
                    let constraints = record.constraints.clone();
                    self.lost_condition(constraints, &mut infeasible_constraints)
                }
                _ if record.is_ready(host) => ReplicaCondition::Ready,
                Phase::Waiting => ReplicaCondition::Waiting,
                _ => ReplicaCondition::Pending,
            };
            members.push(Member {
                workload_index: member,
                condition,
                host: host_index,
                outdated,
                overdue,
            });
        }
        (members, terminating)
    }

    /// Returns the condition of a workload on a lost host. `infeasible` caches, for the constraints
    /// of the set, whether no host fits.
    fn lost_condition(
        &mut self,
        constraints: Arc<SchedulingConstraints>,
        infeasible: &mut BTreeMap<Arc<SchedulingConstraints>, bool>,
    ) -> ReplicaCondition {
        let is_infeasible = match infeasible.get(&constraints) {
            Some(is_infeasible) => *is_infeasible,
            None => {
                let is_infeasible = !self.has_feasible_host(&constraints);
                infeasible.insert(constraints, is_infeasible);
                is_infeasible
            }
        };
        if is_infeasible {
            ReplicaCondition::AwaitingReschedule
        } else {
            ReplicaCondition::Lost
        }
    }

    fn discard_member(&mut self, set_index: u32, member: u32, recreate: bool) {
        let fence = self.options.timings.fence;
        let record = self.workloads.get(member);
        let host = record
            .and_then(|record| record.assignment.as_ref())
            .map(|assignment| assignment.host);
        let host = host.and_then(|host| self.fleet.get(host));
        let lost_at = host.filter(|host| host.is_lost()).map(|host| host.lost_at);
        if let (true, Some(lost_at), Some(set)) = (recreate, lost_at, self.sets.get_mut(set_index))
        {
            set.fences.push(lost_at + fence);
        }
        if let Some(record) = self.workloads.get(member)
            && let Some(set) = self.sets.get_mut(set_index)
            && record.is_failed()
            && record.revision() == Some(set.revision.as_str())
        {
            set.inherited_backoffs.push(record.backoff);
        }
        self.discard(member);
    }

    fn create_member(&mut self, set_index: u32) {
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        let Some(object) = set.cached.object.clone() else {
            return;
        };
        let uid = set.uid.clone();
        let namespace = set.key.namespace.clone();
        let mut name_counter = set.name_counter;
        let revision = set.revision.clone();
        let key = loop {
            name_counter += 1;
            let suffix = name_suffix(&[&uid], name_counter);
            let name = child_name(
                &object.metadata.name,
                &suffix,
                object::WORKLOAD_NAME_BYTES_MAX,
            );
            let key = Key::new(api::Kind::Workload, namespace.clone(), name);
            if self.workloads.index(&key).is_none() {
                break key;
            }
        };
        let mut backoff = None;
        if let Some(set) = self.sets.get_mut(set_index) {
            set.name_counter = name_counter;
            backoff = set.inherited_backoffs.pop();
        }
        let workload = self.add_pending_workload(object::member(&object, &key, &revision));
        if let (Some(record), Some(backoff)) = (self.workloads.get_mut(workload), backoff) {
            record.backoff = backoff;
        }
    }
}

impl ReplicaSet {
    /// Reduces the number of workloads to create during a pause and after a refusal. Returns when
    /// to check again.
    fn limit_creations(&self, plan: &mut ScalingPlan, now: Duration) -> Option<Duration> {
        if plan.create == 0 {
            return None;
        }
        let paused_until = self.creation_paused_until;
        let is_paused = paused_until > now && !Breakage::RecreatesDeletedDependents.is_on();
        let resumes_at = paused_until.max(self.create_backoff.next_at);
        if is_paused || !self.create_backoff.is_over(now) {
            plan.create = 0;
            return Some(resumes_at);
        }
        if self.create_refusal.is_some() {
            // One creation finds out whether the store still refuses all of them.
            plan.create = 1;
        }
        None
    }
}

/// Counts of the terminating members, and the times of the next discards of wanted ones.
#[derive(Debug, Default)]
struct TerminatingMembers {
    /// Members that still have an assignment.
    assigned: u32,
    /// Members whose deletion is not yet written to the store.
    pending_deletions: u32,
    /// When the next wanted member on a draining host is discarded without a replacement.
    overdue_at: Option<Duration>,
    /// When the backoff of the next failed member ends.
    retry_at: Option<Duration>,
}

impl TerminatingMembers {
    /// Returns whether `at` has passed. If not, records the earliest such time in `overdue_at`.
    fn check_overdue(&mut self, at: Option<Duration>, now: Duration) -> bool {
        let is_overdue = at.is_some_and(|at| now >= at);
        if !is_overdue {
            self.overdue_at = self.overdue_at.into_iter().chain(at).min();
        }
        is_overdue
    }
}
