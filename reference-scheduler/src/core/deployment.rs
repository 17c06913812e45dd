//! A deployment: the replica set of the wanted revision, and the way to it from the one before.

mod resolve;
mod rollout;
mod status;

use std::sync::Arc;
use std::time::Duration;

use self::rollout::{Old, Rolling};
use super::Scheduler;
use super::agenda::Item;
use super::kept::Kept;
use super::replica_set::ReplicaSet;
use crate::api::{
    self, DeployPolicy, Key, LocalReference, Object, ReplicaCounts, WorkloadDeployment, condition,
    names,
};

/// Reason of `Deploy` when a rollout stands still.
const STUCK: &str = "ProgressDeadlineExceeded";

/// What is known of one deployment.
#[derive(Debug)]
pub(super) struct Deployment {
    pub key: Key,
    pub uid: Arc<str>,
    pub kept: Kept<WorkloadDeployment>,
    /// What the rollout was at when it last moved.
    progress: (String, i32),
    progress_at: Duration,
    is_stuck: bool,
    /// Until then no set is made: one was deleted from outside, which may be the first that is heard of a
    /// deletion of the whole.
    pub calm_until: Duration,
    counted_at: Duration,
}

impl Deployment {
    /// How one revision follows another; nothing for a word that is not known.
    pub fn policy(&self) -> Option<DeployPolicy> {
        let spec = &self.kept.object.as_ref()?.spec;
        matches!(
            spec.deploy_policy.as_str(),
            "" | "RollingUpdate" | "Recreate"
        )
        .then(|| spec.deploy_policy())
    }

    /// Whether it holds an artifact back from being deleted.
    pub fn uses(&self, artifact: &Key) -> bool {
        let object = self.kept.object.as_ref();
        let object = object.filter(|object| !object.metadata.is_deleting());
        self.key.namespace == artifact.namespace
            && object.is_some_and(|object| {
                let mut used = object.spec.artifacts.iter();
                used.any(|used| *used.artifact_from.name == *artifact.name)
            })
    }

    /// Why nothing is done about it.
    fn invalid(&self) -> Option<&'static str> {
        let spec = &self.kept.object.as_ref()?.spec;
        match (self.policy(), spec.replicas) {
            (None, _) => Some("deployPolicy is neither RollingUpdate nor Recreate"),
            (_, Some(replicas)) if replicas < 0 => Some("replicas is negative"),
            _ => None,
        }
    }
}

/// What was found out about a deployment, for its status.
#[derive(Debug, Default)]
struct Findings {
    invalid: Option<&'static str>,
    missing_artifact: Option<String>,
    current: Option<String>,
    previous: Option<String>,
    is_current: bool,
    is_settled: bool,
    is_complete: bool,
    counts: ReplicaCounts,
}

impl Scheduler {
    pub(super) fn apply_deployment(&mut self, object: Arc<WorkloadDeployment>) {
        let key = Object::Deployment(object.clone()).key();
        let namespace = key.namespace.clone();
        let known = self
            .deployments
            .number(&key)
            .and_then(|number| self.deployments.get(number));
        if let Some(known) = known
            && *known.uid != *object.metadata.uid
        {
            let uid = known.uid.to_string();
            self.deployment_removed(&key, &uid);
        }
        let number = self.deployments.number(&key).unwrap_or_else(|| {
            let record = Deployment {
                key: key.clone(),
                uid: object.metadata.uid.as_str().into(),
                kept: Kept::default(),
                progress: (String::new(), 0),
                progress_at: self.now,
                is_stuck: is_stuck(&object),
                calm_until: Duration::ZERO,
                counted_at: self.now,
            };
            let uid = record.uid.clone();
            let number = self.deployments.insert(key, record);
            self.deployments_by_uid.insert(uid, number);
            number
        });
        let Some(record) = self.deployments.get_mut(number) else {
            return;
        };
        let first = record.kept.object.is_none();
        let fresh = record
            .kept
            .accept(object, |deployment| &deployment.metadata);
        let uid = record.uid.clone();
        if fresh {
            self.look_at_artifacts(&namespace);
            self.agenda.look_at(Item::Deployment(number));
            self.look_at_sets_of(&uid, first);
        }
    }

    /// The sets of one that has changed; when it has come or gone, also what they have.
    fn look_at_sets_of(&mut self, uid: &str, with_members: bool) {
        for set in self.sets_of.get(uid).cloned().unwrap_or_default() {
            self.agenda.look_at(Item::Set(set));
            let set = self.sets.get(set).filter(|_| with_members);
            if let Some(uid) = set.map(|set| set.uid.clone()) {
                self.look_at_members(&uid);
            }
        }
    }

    pub(super) fn deployment_removed(&mut self, key: &Key, uid: &str) {
        let Some(number) = self.deployments.number(key) else {
            return;
        };
        let record = self.deployments.get(number);
        if record.is_some_and(|record| !uid.is_empty() && *record.uid != *uid) {
            return;
        }
        let Some(record) = self.deployments.remove(key) else {
            return;
        };
        self.deployments_by_uid.remove(&record.uid);
        self.agenda.look_again(Item::Deployment(number), None);
        self.look_at_sets_of(&record.uid, true);
        self.look_at_artifacts(&key.namespace);
    }

    pub(super) fn look_at_deployment(&mut self, number: u32) {
        let Some(record) = self.deployments.get(number) else {
            return;
        };
        let Some(object) = record.kept.object.clone() else {
            return;
        };
        if object.metadata.is_deleting() {
            return;
        }
        let (findings, rolled) = self.roll(number, &object);
        let written = self.write_deployment(number, &object, &findings);
        let wake = rolled.into_iter().chain(written).min();
        self.agenda.look_again(Item::Deployment(number), wake);
    }

    /// Brings the replica sets nearer to what is wanted.
    fn roll(&mut self, number: u32, object: &WorkloadDeployment) -> (Findings, Option<Duration>) {
        let mut findings = Findings::default();
        let Some(record) = self.deployments.get(number) else {
            return (findings, None);
        };
        let (uid, policy) = (record.uid.clone(), record.policy());
        let calm_until = Some(record.calm_until).filter(|until| self.now < *until);
        findings.invalid = record.invalid();
        let sets = self.wanted_sets(&uid);
        let template = match findings.invalid {
            Some(_) => None,
            None => match self.resolve_template(object) {
                Ok(template) => Some(template),
                Err(missing) => {
                    findings.missing_artifact = Some(missing);
                    None
                }
            },
        };
        let Some(template) = template else {
            let status = object.status.clone().unwrap_or_default();
            findings.current = status.current_replica_set.map(|set| set.name);
            findings.previous = status.previous_replica_set.map(|set| set.name);
            self.count_sets(&mut findings, object, &sets);
            return (findings, None);
        };
        let revision = crate::revision::revision(&template.spec);
        let named = object
            .status
            .as_ref()
            .and_then(|status| status.current_replica_set.as_ref());
        let of_revision = sets.iter().copied().filter(|set| {
            self.sets
                .get(*set)
                .is_some_and(|set| set.revision == revision)
        });
        let current = of_revision.min_by_key(|set| {
            let name = self.sets.get(*set).map(|set| set.key.name.clone());
            let is_named = named.is_some_and(|named| name.as_deref() == Some(named.name.as_str()));
            (!is_named, name)
        });
        let old: Vec<u32> = sets
            .iter()
            .copied()
            .filter(|set| Some(*set) != current)
            .collect();
        let good = self.last_good(object, current, &old);
        let rollout = Rollout {
            replicas: object.spec.replicas(),
            current,
            old,
            good,
        };
        let wake = match policy {
            _ if rollout.current.is_none() && calm_until.is_some() => calm_until,
            Some(DeployPolicy::Recreate) => self.recreate(&rollout, object, template, &revision),
            _ => self.roll_over(&rollout, object, template, &revision),
        };
        let sets = self.wanted_sets(&uid);
        self.find_out(&mut findings, object, &sets, &revision, good);
        let stuck = self.watch_progress(number, &revision, &findings);
        (findings, wake.into_iter().chain(stuck).min())
    }

    /// The replica sets of a deployment that are not on their way out.
    fn wanted_sets(&self, uid: &str) -> Vec<u32> {
        let sets = self.sets_of.get(uid).into_iter().flatten().copied();
        let is_wanted = |set: &u32| self.sets.get(*set).is_some_and(ReplicaSet::is_wanted);
        sets.filter(is_wanted).collect()
    }

    /// The last revision that was rolled out to the end: its set stays until another is.
    fn last_good(
        &self,
        object: &WorkloadDeployment,
        current: Option<u32>,
        old: &[u32],
    ) -> Option<u32> {
        let status = object.status.as_ref()?;
        let find = |reference: &Option<LocalReference>| {
            let name = &reference.as_ref()?.name;
            let is_it = |set: &&u32| {
                self.sets
                    .get(**set)
                    .is_some_and(|set| *set.key.name == **name)
            };
            old.iter().find(is_it).copied()
        };
        let previous = find(&status.previous_replica_set);
        let was_current = find(&status.current_replica_set);
        let is_back = current
            .and_then(|current| self.sets.get(current))
            .is_some_and(|current| {
                let previous = status.previous_replica_set.as_ref();
                previous.is_some_and(|previous| *current.key.name == *previous.name)
            });
        match is_back {
            true => None,
            false => previous.or(was_current),
        }
    }

    fn roll_over(
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
        let mut old: Vec<Old> = rollout
            .old
            .iter()
            .map(|set| Old {
                set: *set,
                size: self
                    .sets
                    .get(*set)
                    .map_or(0, super::replica_set::ReplicaSet::replicas),
                ready: ready(*set),
                is_good: Some(*set) == rollout.good,
                there: self.there(*set),
            })
            .collect();
        old.sort_by_key(|old| (!old.is_good, old.set));
        let rolling = Rolling {
            replicas: rollout.replicas,
            surge,
            ready: rollout.current.map_or(0, ready),
        };
        let plan = rolling.plan(&old);
        match rollout.current {
            Some(current) => self.resize_set(current, plan.size),
            None => {
                let set = self.new_set(object, template, revision, plan.size);
                self.draft_set(set);
                // One that had a surge of its own gives it up.
                for old in &old {
                    self.agenda.look_at(Item::Set(old.set));
                }
            }
        }
        for (old, size) in old.iter().zip(plan.old) {
            let has_members = self.has_members(old.set);
            match size {
                0 if plan.is_complete || (!old.is_good && !has_members) => {
                    self.discard_set(old.set)
                }
                _ => self.resize_set(old.set, size),
            }
        }
        None
    }

    /// How many there are of a set, with those that are to go and of which the store does not know yet.
    fn there(&self, set: u32) -> u32 {
        self.sets.get(set).map_or(0, |set| {
            u32::try_from(set.counts.current).unwrap_or(0) + set.undeleted
        })
    }

    /// Nothing new before all that is old is gone, and what may still run on lost hosts has had its time.
    fn recreate(
        &mut self,
        rollout: &Rollout,
        object: &WorkloadDeployment,
        template: api::WorkloadTemplate,
        revision: &str,
    ) -> Option<Duration> {
        let mut fenced = None;
        let mut clear = true;
        for old in &rollout.old {
            self.resize_set(*old, 0);
            let until = self
                .sets
                .get(*old)
                .and_then(|set| set.fenced_until(self.now));
            fenced = fenced.max(until);
            clear &= until.is_none() && !self.has_members(*old);
        }
        if !clear {
            return fenced;
        }
        match rollout.current {
            Some(current) => self.resize_set(current, rollout.replicas),
            None => {
                let set = self.new_set(object, template, revision, rollout.replicas);
                self.draft_set(set);
            }
        }
        for old in &rollout.old {
            self.discard_set(*old);
        }
        None
    }

    /// Whether any of its workloads are there, also on their way out.
    fn has_members(&self, set: u32) -> bool {
        let members = self
            .sets
            .get(set)
            .and_then(|set| self.members.get(&set.uid));
        members.is_some_and(|members| !members.is_empty())
    }

    fn find_out(
        &self,
        findings: &mut Findings,
        object: &WorkloadDeployment,
        sets: &[u32],
        revision: &str,
        good: Option<u32>,
    ) {
        self.count_sets(findings, object, sets);
        let name = |set: u32| self.sets.get(set).map(|set| set.key.name.to_string());
        let mut of_revision = sets.iter().copied().filter(|set| {
            self.sets
                .get(*set)
                .is_some_and(|set| set.revision == revision)
        });
        let current = of_revision.next();
        let before = object
            .status
            .as_ref()
            .and_then(|status| status.current_replica_set.as_ref());
        findings.is_current = current.is_some();
        // While the old ones stop, what is recreated has no new set yet, and the old one is still named.
        findings.current = current
            .and_then(name)
            .or_else(|| before.map(|before| before.name.clone()));
        findings.previous = good.filter(|good| sets.contains(good)).and_then(name);
        findings.previous = findings.previous.take().filter(|_| current.is_some());
        findings.is_settled = sets.len() <= 1;
        let wanted = i32::try_from(object.spec.replicas()).unwrap_or(i32::MAX);
        let counts = current
            .and_then(|set| self.sets.get(set))
            .map(|set| set.counts);
        let is_ready = counts.is_some_and(|counts| {
            counts.expected == wanted && counts.ready >= wanted && counts.current == wanted
        });
        findings.is_complete = findings.is_settled && is_ready;
    }

    fn count_sets(&self, findings: &mut Findings, object: &WorkloadDeployment, sets: &[u32]) {
        let counts = &mut findings.counts;
        for set in sets.iter().filter_map(|set| self.sets.get(*set)) {
            counts.current += set.counts.current;
            counts.ready += set.counts.ready;
        }
        counts.expected = i32::try_from(object.spec.replicas()).unwrap_or(i32::MAX);
        counts.unavailable = counts.current - counts.ready;
    }

    /// Tells a rollout that stands still from one that goes on; says when to look again.
    fn watch_progress(
        &mut self,
        number: u32,
        revision: &str,
        findings: &Findings,
    ) -> Option<Duration> {
        let (now, deadline) = (self.now, self.options.timings.progress_deadline);
        let record = self.deployments.get_mut(number)?;
        let progress = (revision.to_owned(), findings.counts.ready);
        let moved = record.progress.0 != progress.0 || record.progress.1 < progress.1;
        if moved || findings.is_complete {
            let first = record.progress.0.is_empty();
            record.is_stuck &= first && !findings.is_complete;
            record.progress_at = now;
        }
        record.progress = progress;
        if findings.is_complete || record.is_stuck {
            return None;
        }
        let due = record.progress_at + deadline;
        if now < due {
            return Some(due);
        }
        record.is_stuck = true;
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        self.warn(
            key,
            uid,
            STUCK,
            format!("nothing has become ready for {deadline:?}"),
        );
        None
    }
}

/// The parts of a rollout.
struct Rollout {
    replicas: u32,
    current: Option<u32>,
    old: Vec<u32>,
    good: Option<u32>,
}

fn is_stuck(object: &WorkloadDeployment) -> bool {
    let status = object.status.as_ref();
    let deploy = status.and_then(|status| condition(&status.conditions, names::deployment::DEPLOY));
    deploy.is_some_and(|deploy| deploy.reason == STUCK)
}
