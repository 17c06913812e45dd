//! A deployment: the replica set of the current revision, and the rollout to it from the previous
//! set. Times are durations since an arbitrary start.

mod resolve;
mod rollout;
mod status;

use std::sync::Arc;
use std::time::Duration;

use self::rollout::{OldSet, RollingUpdate};
use self::status::RolloutStatus;
use super::Scheduler;
use super::cached_object::CachedObject;
use super::replica_set::ReplicaSet;
use super::work_queue::WorkItem;
use crate::api::{
    self, DeployPolicy, Key, LocalReference, Object, WorkloadDeployment, condition, names,
};

/// Reason of the condition `Deploy` while a rollout is stuck.
const STUCK_REASON: &str = "ProgressDeadlineExceeded";

/// The state of one deployment.
#[derive(Debug)]
pub(super) struct Deployment {
    pub key: Key,
    pub uid: Arc<str>,
    pub cached: CachedObject<WorkloadDeployment>,
    /// Revision and number of ready replicas at the most recent progress.
    progress: (String, i32),
    progress_at: Duration,
    is_stuck: bool,
    /// No set is created before this time, because someone else deleted a set, which may be the
    /// first sign that the whole deployment is being deleted.
    pub creation_paused_until: Duration,
    status_written_at: Duration,
    /// The number of replicas for which the sets were resized most recently.
    replicas: u32,
}

impl Deployment {
    /// Returns the rollout policy, or `None` if the policy of the specification is unknown.
    pub fn policy(&self) -> Option<DeployPolicy> {
        self.cached.object.as_ref()?.spec.deploy_policy()
    }

    /// Returns whether the deployment refers to `artifact`, which protects the artifact from
    /// deletion.
    pub fn uses_artifact(&self, artifact: &Key) -> bool {
        let object = self.cached.object.as_ref();
        let object = object.filter(|object| !object.metadata.is_deleting());
        self.key.namespace == artifact.namespace
            && object.is_some_and(|object| {
                let mut used = object.spec.artifacts.iter();
                used.any(|used| *used.artifact_from.name == *artifact.name)
            })
    }

    /// Returns why the specification is invalid.
    fn invalid_reason(&self) -> Option<&'static str> {
        let spec = &self.cached.object.as_ref()?.spec;
        match (self.policy(), spec.replicas) {
            (None, _) => Some("deployPolicy is neither RollingUpdate nor Recreate"),
            (_, Some(replicas)) if replicas < 0 => Some("replicas is negative"),
            _ if self.max_unavailable().is_none() => Some(
                "the annotation berth.dev/max-unavailable is neither a number nor a percentage",
            ),
            _ => None,
        }
    }

    /// Returns the number of replicas that may be missing during a rolling update, or `None` if the
    /// annotation is invalid.
    fn max_unavailable(&self) -> Option<u32> {
        let object = self.cached.object.as_ref()?;
        let annotations = &object.metadata.annotations;
        let Some(text) = annotations.get(names::MAX_UNAVAILABLE_ANNOTATION) else {
            return Some(0);
        };
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().ok();
        };
        let percent: u64 = percent.parse().ok().filter(|percent| *percent <= 100)?;
        let missing = u64::from(object.spec.replicas()) * percent / 100;
        u32::try_from(missing).ok()
    }
}

impl Scheduler {
    pub(super) fn on_deployment_applied(&mut self, object: Arc<WorkloadDeployment>) {
        let key = Object::Deployment(object.clone()).key();
        let namespace = key.namespace.clone();
        let known = self
            .deployments
            .index(&key)
            .and_then(|index| self.deployments.get(index));
        if let Some(old) = known
            && *old.uid != *object.metadata.uid
        {
            if old.cached.is_stale(&object.metadata, |it| &it.metadata) {
                return;
            }
            let uid = old.uid.to_string();
            self.on_deployment_removed(&key, &uid);
        }
        let deployment_index = self.deployments.index(&key).unwrap_or_else(|| {
            let record = Deployment {
                key: key.clone(),
                uid: object.metadata.uid.as_str().into(),
                cached: CachedObject::default(),
                progress: (String::new(), 0),
                progress_at: self.now,
                is_stuck: is_stuck(&object),
                creation_paused_until: Duration::ZERO,
                status_written_at: self.now,
                replicas: replicas_of_status(&object),
            };
            let uid = record.uid.clone();
            let index = self.deployments.insert(key, record);
            self.deployments_by_uid.insert(uid, index);
            index
        });
        let Some(record) = self.deployments.get_mut(deployment_index) else {
            return;
        };
        let is_new = record.cached.object.is_none();
        let is_newer = record
            .cached
            .accept(object, |deployment| &deployment.metadata);
        let uid = record.uid.clone();
        if is_newer {
            self.enqueue_artifacts(&namespace);
            self.queue.enqueue(WorkItem::Deployment(deployment_index));
            self.enqueue_sets_of(&uid, is_new);
        }
    }

    /// Enqueues the sets of a deployment, and optionally their members.
    fn enqueue_sets_of(&mut self, uid: &str, with_members: bool) {
        for set in self
            .sets_by_deployment
            .get(uid)
            .cloned()
            .unwrap_or_default()
        {
            self.queue.enqueue(WorkItem::Set(set));
            let set = self.sets.get(set).filter(|_| with_members);
            if let Some(uid) = set.map(|set| set.uid.clone()) {
                self.enqueue_members(&uid);
            }
        }
    }

    pub(super) fn on_deployment_removed(&mut self, key: &Key, uid: &str) {
        let Some(deployment_index) = self.deployments.index(key) else {
            return;
        };
        let record = self.deployments.get(deployment_index);
        if record.is_some_and(|record| !uid.is_empty() && *record.uid != *uid) {
            return;
        }
        let Some(record) = self.deployments.remove(key) else {
            return;
        };
        self.deployments_by_uid.remove(&record.uid);
        self.queue
            .reschedule(WorkItem::Deployment(deployment_index), None);
        let with_members = true;
        self.enqueue_sets_of(&record.uid, with_members);
        self.enqueue_artifacts(&key.namespace);
    }

    pub(super) fn reconcile_deployment(&mut self, deployment_index: u32) {
        let Some(record) = self.deployments.get(deployment_index) else {
            return;
        };
        let Some(object) = record.cached.object.clone() else {
            return;
        };
        if object.metadata.is_deleting() {
            return;
        }
        let (observed, rollout_wake) = self.reconcile_rollout(deployment_index, &object);
        let write_wake = self.write_deployment_status(deployment_index, &object, &observed);
        let wake = rollout_wake.into_iter().chain(write_wake).min();
        self.queue
            .reschedule(WorkItem::Deployment(deployment_index), wake);
    }

    /// Moves the replica sets one step toward the desired state.
    fn reconcile_rollout(
        &mut self,
        deployment_index: u32,
        object: &WorkloadDeployment,
    ) -> (RolloutStatus, Option<Duration>) {
        let mut observed = RolloutStatus::default();
        let Some(record) = self.deployments.get(deployment_index) else {
            return (observed, None);
        };
        let (uid, policy) = (record.uid.clone(), record.policy());
        let paused_until = Some(record.creation_paused_until).filter(|until| self.now < *until);
        observed.invalid_reason = record.invalid_reason();
        let max_unavailable = record.max_unavailable().unwrap_or(0);
        let (replicas_before, is_stuck) = (record.replicas, record.is_stuck);
        let sets = self.wanted_sets(&uid);
        let template = match observed.invalid_reason {
            Some(_) => None,
            None => match self.resolve_template(object) {
                Ok(template) => Some(template),
                Err(missing) => {
                    observed.missing_artifact = Some(missing);
                    None
                }
            },
        };
        let Some(template) = template else {
            let status = object.status.clone().unwrap_or_default();
            observed.current = status.current_replica_set.map(|set| set.name);
            observed.previous = status.previous_replica_set.map(|set| set.name);
            self.count_sets(&mut observed, object, &sets);
            return (observed, None);
        };
        let revision = crate::revision::revision(&template.spec);
        let current = self.current_set(object, &revision, &sets);
        let old: Vec<u32> = sets
            .iter()
            .copied()
            .filter(|set| Some(*set) != current)
            .collect();
        let last_good = self.last_good_set(object, current, &old);
        let replicas = object.spec.replicas();
        let rollout = Rollout {
            replicas,
            max_unavailable,
            is_scaled_up: is_stuck && current.is_some() && replicas > replicas_before,
            current,
            old,
            last_good,
        };
        if let Some(record) = self.deployments.get_mut(deployment_index) {
            record.replicas = replicas;
        }
        let wake = match policy {
            _ if rollout.current.is_none() && paused_until.is_some() => paused_until,
            Some(DeployPolicy::Recreate) => {
                self.apply_recreate(&rollout, object, template, &revision)
            }
            _ => self.apply_rolling_update(&rollout, object, template, &revision),
        };
        let sets = self.wanted_sets(&uid);
        self.observe_rollout(&mut observed, object, &sets, &revision, last_good);
        let progress_wake = self.check_progress(deployment_index, &revision, &observed);
        (observed, wake.into_iter().chain(progress_wake).min())
    }

    /// Returns the wanted replica sets of a deployment.
    fn wanted_sets(&self, uid: &str) -> Vec<u32> {
        let sets = self
            .sets_by_deployment
            .get(uid)
            .into_iter()
            .flatten()
            .copied();
        let is_wanted = |set: &u32| self.sets.get(*set).is_some_and(ReplicaSet::is_wanted);
        sets.filter(is_wanted).collect()
    }

    /// Returns the set of the current revision, preferably the one that the status names.
    fn current_set(
        &self,
        object: &WorkloadDeployment,
        revision: &str,
        sets: &[u32],
    ) -> Option<u32> {
        let status = object.status.as_ref();
        let named = status.and_then(|status| status.current_replica_set.as_ref());
        let of_revision = sets.iter().copied().filter(|set| {
            let set = self.sets.get(*set);
            set.is_some_and(|set| set.revision == *revision)
        });
        of_revision.min_by_key(|set| {
            let name = self.sets.get(*set).map(|set| set.key.name.clone());
            let is_named = named.is_some_and(|named| name.as_deref() == Some(named.name.as_str()));
            (!is_named, name)
        })
    }

    /// Returns the set of the last revision that was rolled out completely. The set stays until
    /// another revision is rolled out completely.
    fn last_good_set(
        &self,
        object: &WorkloadDeployment,
        current: Option<u32>,
        old: &[u32],
    ) -> Option<u32> {
        let status = object.status.as_ref()?;
        let find = |reference: &Option<LocalReference>| {
            let name = &reference.as_ref()?.name;
            let has_name = |set: &&u32| {
                self.sets
                    .get(**set)
                    .is_some_and(|set| *set.key.name == **name)
            };
            old.iter().find(has_name).copied()
        };
        let previous = find(&status.previous_replica_set);
        let was_current = find(&status.current_replica_set);
        let is_rollback = current
            .and_then(|current| self.sets.get(current))
            .is_some_and(|current| {
                let previous = status.previous_replica_set.as_ref();
                previous.is_some_and(|previous| *current.key.name == *previous.name)
            });
        if is_rollback {
            None
        } else {
            previous.or(was_current)
        }
    }

    fn apply_rolling_update(
        &mut self,
        rollout: &Rollout,
        object: &WorkloadDeployment,
        template: api::WorkloadTemplate,
        revision: &str,
    ) -> Option<Duration> {
        let surge = self.options.timings.surge(rollout.replicas);
        let ready = |set: u32| {
            let ready = self.sets.get(set).map_or(0, |set| set.counts.ready);
            u32::try_from(ready).unwrap_or(0)
        };
        let mut old: Vec<OldSet> = rollout
            .old
            .iter()
            .map(|set| OldSet {
                set: *set,
                size: self
                    .sets
                    .get(*set)
                    .map_or(0, super::replica_set::ReplicaSet::replicas),
                ready: ready(*set),
                is_last_good: Some(*set) == rollout.last_good,
                existing: self.existing_replicas(*set),
            })
            .collect();
        old.sort_by_key(|old| (!old.is_last_good, old.set));
        let rolling_update = RollingUpdate {
            replicas: rollout.replicas,
            surge,
            max_unavailable: rollout.max_unavailable,
            ready: rollout.current.map_or(0, ready),
            is_scaled_up: rollout.is_scaled_up,
        };
        let plan = rolling_update.plan(&old);
        match rollout.current {
            Some(current) => self.resize_set(current, plan.size),
            None => {
                let set = self.new_set(object, template, revision, plan.size);
                self.add_pending_set(set);
                // An old set that was the only set may have used the surge itself, for example to
                // replace replicas of a draining host. The new set now has the surge, so the old
                // set discards its additional replicas.
                for old in &old {
                    self.queue.enqueue(WorkItem::Set(old.set));
                }
            }
        }
        for (old, size) in old.iter().zip(plan.old) {
            let has_members = self.has_members(old.set);
            match size {
                0 if plan.is_complete || (!old.is_last_good && !has_members) => {
                    self.discard_set(old.set)
                }
                _ => self.resize_set(old.set, size),
            }
        }
        None
    }

    /// Returns the number of replicas of a set, including replicas whose deletion is not yet
    /// written to the store.
    fn existing_replicas(&self, set: u32) -> u32 {
        self.sets.get(set).map_or(0, |set| {
            u32::try_from(set.counts.current).unwrap_or(0) + set.pending_deletions
        })
    }

    /// Creates the new set after all old replicas are gone and the fences of lost hosts have ended.
    fn apply_recreate(
        &mut self,
        rollout: &Rollout,
        object: &WorkloadDeployment,
        template: api::WorkloadTemplate,
        revision: &str,
    ) -> Option<Duration> {
        let mut fenced_until = None;
        let mut is_clear = true;
        for old in &rollout.old {
            self.resize_set(*old, 0);
            let until = self
                .sets
                .get(*old)
                .and_then(|set| set.fenced_until(self.now));
            fenced_until = fenced_until.max(until);
            is_clear &= until.is_none() && !self.has_members(*old);
        }
        if !is_clear {
            return fenced_until;
        }
        match rollout.current {
            Some(current) => self.resize_set(current, rollout.replicas),
            None => {
                let set = self.new_set(object, template, revision, rollout.replicas);
                self.add_pending_set(set);
            }
        }
        for old in &rollout.old {
            self.discard_set(*old);
        }
        None
    }

    /// Returns whether a set has any workloads, including terminating ones.
    fn has_members(&self, set: u32) -> bool {
        let members = self
            .sets
            .get(set)
            .and_then(|set| self.members.get(&set.uid));
        members.is_some_and(|members| !members.is_empty())
    }

    /// Checks whether the rollout is stuck and returns when to check again.
    fn check_progress(
        &mut self,
        deployment_index: u32,
        revision: &str,
        observed: &RolloutStatus,
    ) -> Option<Duration> {
        let (now, deadline) = (self.now, self.options.timings.progress_deadline);
        let record = self.deployments.get_mut(deployment_index)?;
        let progress = (revision.to_owned(), observed.counts.ready);
        let has_progressed = record.progress.0 != progress.0 || record.progress.1 < progress.1;
        if has_progressed || observed.is_complete {
            // The first check keeps `is_stuck` as restored from the status.
            let is_first_check = record.progress.0.is_empty();
            record.is_stuck &= is_first_check && !observed.is_complete;
            record.progress_at = now;
        }
        record.progress = progress;
        if observed.is_complete || record.is_stuck {
            return None;
        }
        let due = record.progress_at + deadline;
        if now < due {
            return Some(due);
        }
        record.is_stuck = true;
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        let message = format!("no replica has become ready for {deadline:?}");
        let message = status::with_reason(&message, &observed.unschedulable_reason);
        self.record_warning(key, uid, STUCK_REASON, message);
        None
    }
}

/// The sets of a rollout.
struct Rollout {
    replicas: u32,
    max_unavailable: u32,
    /// Whether `replicas` has increased since the sets were resized, while the rollout is stuck.
    is_scaled_up: bool,
    current: Option<u32>,
    old: Vec<u32>,
    last_good: Option<u32>,
}

/// Returns the number of replicas for which an earlier scheduler resized the sets.
fn replicas_of_status(object: &WorkloadDeployment) -> u32 {
    let counts = object.status.as_ref().and_then(|status| status.replicas);
    // Without a status, the sets may already have the specified size.
    let specified = object.spec.replicas();
    counts.map_or(specified, |counts| {
        u32::try_from(counts.expected).unwrap_or(0)
    })
}

fn is_stuck(object: &WorkloadDeployment) -> bool {
    let status = object.status.as_ref();
    let deploy = status.and_then(|status| condition(&status.conditions, names::deployment::DEPLOY));
    deploy.is_some_and(|deploy| deploy.reason == STUCK_REASON)
}
