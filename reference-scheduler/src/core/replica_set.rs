//! A number of equal workloads: made, replaced, taken away.

mod balance;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::balance::{Balance, Member, Standing};
use super::agenda::Item;
use super::backoff::Backoff;
use super::kept::Kept;
use super::placement::Spread;
use super::workload::Phase;
use super::{Scheduler, Status, Write, WriteError};
use crate::api::{
    self, Condition, ConditionStatus, DeployPolicy, Key, Object, ReplicaCounts, WorkloadReplicaSet,
    WorkloadReplicaSetStatus, names, set_condition,
};

use crate::breakage::Breakage;

pub(super) use self::object::suffix;

/// What follows soon after each other is looked at once.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(10);

/// How long nothing takes the place of what was deleted from outside. That may be the first that is heard of
/// a deletion of the whole: what is told of each kind of object comes on a way of its own.
const CASCADE: Duration = Duration::from_secs(1);

/// What is known of one replica set.
#[derive(Debug)]
pub(super) struct ReplicaSet {
    pub key: Key,
    pub uid: Arc<str>,
    pub kept: Kept<WorkloadReplicaSet>,
    draft: Option<Arc<WorkloadReplicaSet>>,
    /// The uid of its deployment.
    pub owner: Option<Arc<str>>,
    pub revision: String,
    pub unwanted: bool,
    /// The size that its deployment has chosen, until the store has it.
    resized: Option<u32>,
    pub spread: Spread,
    /// Hosts that its workloads failed on lately, and until when they are avoided.
    pub avoided: BTreeMap<u32, Duration>,
    pub backoff: Backoff,
    /// Places that are kept free because what was there may still run: until when.
    fences: Vec<Duration>,
    /// Until then nothing is made: see [`CASCADE`].
    calm_until: Duration,
    names: u32,
    pub counts: ReplicaCounts,
    /// How many more there are that are to go and that the store does not know of yet.
    pub undeleted: u32,
    counted_at: Duration,
}

impl ReplicaSet {
    pub fn object(&self) -> Option<&Arc<WorkloadReplicaSet>> {
        self.kept.object.as_ref().or(self.draft.as_ref())
    }

    pub fn is_deleting(&self) -> bool {
        let object = self.kept.object.as_ref();
        object.is_some_and(|object| object.metadata.is_deleting())
    }

    pub fn is_wanted(&self) -> bool {
        !self.unwanted && (!self.is_deleting() || Breakage::FightsGarbageCollection.is_on())
    }

    pub fn replicas(&self) -> u32 {
        let said = self.object().map_or(0, |object| object.spec.replicas());
        self.resized.unwrap_or(said)
    }

    /// Whether it asks for what cannot be; then nothing is done.
    fn is_invalid(&self) -> bool {
        let replicas = self.object().and_then(|object| object.spec.replicas);
        self.resized.is_none() && replicas.is_some_and(|replicas| replicas < 0)
    }

    /// Until when something that it ran may still run.
    pub fn fenced_until(&self, now: Duration) -> Option<Duration> {
        self.fences
            .iter()
            .copied()
            .filter(|until| *until > now)
            .max()
    }
}

impl Scheduler {
    pub(super) fn draft_set(&mut self, object: WorkloadReplicaSet) -> u32 {
        let object = Arc::new(object);
        let key = Object::ReplicaSet(object.clone()).key();
        let number = self.insert_set(key, &object);
        if let Some(set) = self.sets.get_mut(number) {
            set.draft = Some(object);
        }
        self.agenda.look_at(Item::Set(number));
        number
    }

    fn insert_set(&mut self, key: Key, object: &WorkloadReplicaSet) -> u32 {
        let deployment = api::Kind::WorkloadDeployment.as_str();
        let owner = object
            .metadata
            .controller()
            .filter(|owner| owner.kind == deployment);
        let owner: Option<Arc<str>> = owner.map(|owner| owner.uid.as_str().into());
        let record = ReplicaSet {
            key: key.clone(),
            uid: "".into(),
            kept: Kept::default(),
            draft: None,
            owner: owner.clone(),
            revision: crate::revision::revision(&object.spec.template.spec),
            unwanted: false,
            resized: None,
            spread: Spread::default(),
            avoided: BTreeMap::new(),
            backoff: Backoff::default(),
            fences: Vec::new(),
            calm_until: Duration::ZERO,
            names: 0,
            counts: ReplicaCounts::default(),
            undeleted: 0,
            counted_at: self.now,
        };
        let number = self.sets.insert(key, record);
        if let Some(owner) = owner {
            self.sets_of.entry(owner).or_default().insert(number);
        }
        number
    }

    pub(super) fn apply_set(&mut self, object: Arc<WorkloadReplicaSet>) {
        let key = Object::ReplicaSet(object.clone()).key();
        let known = self.sets.number(&key);
        if let Some(set) = known.and_then(|number| self.sets.get(number))
            && !set.uid.is_empty()
            && *set.uid != *object.metadata.uid
        {
            if set.kept.outdates(&object.metadata, |it| &it.metadata) {
                return;
            }
            let uid = set.uid.to_string();
            self.set_removed(&key, &uid);
        }
        let number = self
            .sets
            .number(&key)
            .unwrap_or_else(|| self.insert_set(key, &object));
        let Some(set) = self.sets.get_mut(number) else {
            return;
        };
        let before = set.kept.object.clone();
        let stayed = set.is_wanted();
        if !set.kept.accept(object.clone(), |set| &set.metadata) {
            return;
        }
        set.draft = None;
        if set.resized == Some(object.spec.replicas()) {
            set.resized = None;
        }
        if before
            .as_ref()
            .is_some_and(|before| before.spec.template.spec != object.spec.template.spec)
        {
            set.revision = crate::revision::revision(&object.spec.template.spec);
        }
        if before.is_none() {
            set.uid = object.metadata.uid.as_str().into();
            let uid = set.uid.clone();
            self.sets_by_uid.insert(uid.clone(), number);
            self.spread_again(number, &uid);
            self.look_at_members(&uid);
        }
        if stayed && object.metadata.is_deleting() {
            self.set_deleted_elsewhere(number);
        }
        self.set_changed(number);
    }

    /// Its workloads may have been told of before it was.
    fn spread_again(&mut self, number: u32, uid: &Arc<str>) {
        let members = self.members.get(uid).into_iter().flatten();
        let hosts = members.filter_map(|member| {
            let place = self.workloads.get(*member)?.place.as_ref()?;
            place.is_counted().then_some(place.host)
        });
        let hosts: Vec<_> = hosts.collect();
        if let Some(set) = self.sets.get_mut(number) {
            hosts.into_iter().for_each(|host| set.spread.add(host));
        }
    }

    /// It and its deployment are to be looked at.
    pub(super) fn set_changed(&mut self, number: u32) {
        self.agenda.look_by(Item::Set(number), self.now + DEBOUNCE);
        if let Some(deployment) = self.deployment_of(number) {
            self.agenda
                .look_by(Item::Deployment(deployment), self.now + DEBOUNCE);
        }
    }

    /// The workloads of a replica set are to be looked at.
    pub(super) fn look_at_members(&mut self, set_uid: &str) {
        for member in self.members.get(set_uid).into_iter().flatten() {
            self.agenda.look_at(Item::Workload(*member));
        }
    }

    /// Whether its deployment is gone.
    pub(super) fn is_orphan_set(&self, number: u32) -> bool {
        let owner = self.sets.get(number).and_then(|set| set.owner.as_ref());
        owner.is_some_and(|owner| !self.deployments_by_uid.contains_key(owner))
    }

    /// A workload that is wanted was deleted, and not by us.
    pub(super) fn deleted_elsewhere(&mut self, workload: u32) {
        if self.workloads.get(workload).is_none_or(|it| it.unwanted) {
            return;
        }
        let calm_until = self.now + CASCADE;
        if let Some(set) = self.set_of(workload).and_then(|set| self.sets.get_mut(set)) {
            set.calm_until = calm_until;
        }
    }

    /// A set that is wanted was deleted, and not by us.
    fn set_deleted_elsewhere(&mut self, set: u32) {
        let calm_until = self.now + CASCADE;
        let deployment = self.deployment_of(set);
        let deployment = deployment.and_then(|number| self.deployments.get_mut(number));
        if let Some(deployment) = deployment.filter(|_| !Breakage::FightsGarbageCollection.is_on())
        {
            deployment.calm_until = calm_until;
        }
    }

    fn deployment_of(&self, set: u32) -> Option<u32> {
        let owner = self.sets.get(set)?.owner.as_ref()?;
        self.deployments_by_uid.get(owner).copied()
    }

    pub(super) fn set_removed(&mut self, key: &Key, uid: &str) {
        let Some(number) = self.sets.number(key) else {
            return;
        };
        let stale = self
            .sets
            .get(number)
            .is_some_and(|set| !uid.is_empty() && *set.uid != *uid);
        if stale {
            return;
        }
        if self.sets.get(number).is_some_and(ReplicaSet::is_wanted) {
            self.set_deleted_elsewhere(number);
        }
        let deployment = self.deployment_of(number);
        let Some(set) = self.sets.remove(key) else {
            return;
        };
        self.sets_by_uid.remove(&set.uid);
        if let Some(sets) = set
            .owner
            .as_ref()
            .and_then(|owner| self.sets_of.get_mut(owner))
        {
            sets.remove(&number);
        }
        self.agenda.look_again(Item::Set(number), None);
        self.look_at_members(&set.uid);
        if let Some(deployment) = deployment {
            self.agenda.look_at(Item::Deployment(deployment));
        }
    }

    /// Its deployment wants another size of it, or nothing any more.
    pub(super) fn resize_set(&mut self, number: u32, replicas: u32) {
        if let Some(set) = self.sets.get_mut(number)
            && set.replicas() != replicas
        {
            set.resized = Some(replicas);
            self.agenda.look_at(Item::Set(number));
        }
    }

    pub(super) fn discard_set(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(number) else {
            return;
        };
        set.unwanted = true;
        let uid = set.uid.clone();
        for member in self.members.get(&uid).cloned().unwrap_or_default() {
            self.discard(member);
        }
        self.agenda.look_at(Item::Set(number));
    }

    pub(super) fn look_at_set(&mut self, number: u32) {
        let balanced = self.balance(number);
        let written = self.write_set(number);
        let wake = balanced.into_iter().chain(written).min();
        self.agenda.look_again(Item::Set(number), wake);
    }

    fn is_recreated(&self, set: u32) -> bool {
        let deployment = self
            .deployment_of(set)
            .and_then(|number| self.deployments.get(number));
        deployment.is_some_and(|deployment| deployment.policy() == Some(DeployPolicy::Recreate))
    }

    /// Whether its deployment has no other.
    fn is_alone(&self, number: u32) -> bool {
        let owner = self.sets.get(number).and_then(|set| set.owner.as_ref());
        let sets = owner
            .and_then(|owner| self.sets_of.get(owner))
            .into_iter()
            .flatten();
        let mut others = sets
            .filter(|set| **set != number)
            .filter_map(|set| self.sets.get(*set));
        !others.any(ReplicaSet::is_wanted)
    }

    /// Makes and takes away workloads until there are as many as there should be.
    fn balance(&mut self, number: u32) -> Option<Duration> {
        let (now, timings) = (self.now, self.options.timings);
        let recreated = self.is_recreated(number);
        let alone = self.is_alone(number);
        let orphan = self.is_orphan_set(number);
        let set = self.sets.get_mut(number)?;
        set.kept.object.as_ref()?;
        set.fences.retain(|until| *until > now);
        // One whose deployment is gone will be taken away by the store: nothing new comes of it.
        if !set.is_wanted() || set.is_invalid() || orphan {
            return None;
        }
        let uid = set.uid.clone();
        let (members, leaving) = self.members_of(number, &uid);
        let set = self.sets.get(number)?;
        let balance = Balance {
            replicas: set.replicas(),
            // In a rollout the surge is shared out already.
            surge: if alone {
                timings.surge(set.replicas())
            } else {
                0
            },
            stops_first: recreated,
            occupied: leaving.going + u32::try_from(set.fences.len()).unwrap_or(u32::MAX),
            undeleted: leaving.undeleted,
            failed_may_go: set.backoff.is_over(now),
        };
        let mut outcome = balance.settle(members);
        let mut wake = set.fences.iter().copied().chain(leaving.overdue_at).min();
        if outcome.waits_for_backoff {
            wake = wake.into_iter().chain([set.backoff.next_at]).min();
        }
        let calm = set.calm_until > now && !Breakage::FightsGarbageCollection.is_on();
        if calm && outcome.create > 0 {
            outcome.create = 0;
            wake = wake.into_iter().chain([set.calm_until]).min();
        }
        for member in &outcome.discard {
            self.discard_member(number, *member, recreated);
        }
        for _ in 0..outcome.create {
            self.create_member(number);
        }
        if let Some(set) = self.sets.get_mut(number) {
            let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
            let current = outcome.kept + outcome.create;
            let counts = ReplicaCounts {
                expected: count(balance.replicas),
                current: count(current),
                ready: count(outcome.ready),
                unavailable: count(current.saturating_sub(outcome.ready)),
            };
            if set.counts != counts || set.undeleted != outcome.undeleted {
                (set.counts, set.undeleted) = (counts, outcome.undeleted);
                if let Some(deployment) = self.deployment_of(number) {
                    self.agenda
                        .look_by(Item::Deployment(deployment), now + DEBOUNCE);
                }
            }
        }
        wake
    }

    /// Counts what it has, and does nothing about it.
    pub(super) fn count_set(&mut self, number: u32) {
        let Some(uid) = self.sets.get(number).map(|set| set.uid.clone()) else {
            return;
        };
        let (members, leaving) = self.members_of(number, &uid);
        let ready = members
            .iter()
            .filter(|member| member.standing == Standing::Ready)
            .count();
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(set) = self.sets.get_mut(number) {
            set.undeleted = leaving.undeleted;
            set.counts.current = count(members.len());
            set.counts.ready = count(ready);
        }
    }

    /// Its workloads that are to stay, and how many are on their way out.
    fn members_of(&mut self, number: u32, uid: &Arc<str>) -> (Vec<Member>, Leaving) {
        let Some(set) = self.sets.get(number) else {
            return (Vec::new(), Leaving::default());
        };
        let revision = set.revision.clone();
        let (mut members, mut leaving) = (Vec::new(), Leaving::default());
        let mut nowhere_to_go = BTreeMap::new();
        let numbers: Vec<u32> = self
            .members
            .get(uid)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for member in numbers {
            let Some(record) = self.workloads.get(member) else {
                continue;
            };
            if !record.is_wanted() {
                leaving.going += u32::from(record.place.is_some());
                let host = record
                    .place
                    .as_ref()
                    .and_then(|place| self.fleet.get(place.host));
                let lost = host.is_some_and(super::fleet::Host::is_lost);
                leaving.undeleted += u32::from(record.is_undeleted() && !lost);
                continue;
            }
            let host_number = record.place.as_ref().map(|place| place.host);
            let host = host_number.and_then(|host| self.fleet.get(host));
            let lost = host_number.is_some() && host.is_none_or(|host| host.is_lost());
            let drained_since = host.and_then(|host| host.drained_since);
            let outdated = record.revision() != Some(revision.as_str()) || drained_since.is_some();
            let patience = self.options.timings.drain_hold;
            let overdue = leaving.is_over(drained_since.map(|since| since + patience), self.now);
            let standing = match record.phase {
                Phase::Failed { .. } if !lost => Standing::Failed,
                Phase::Completed => Standing::Ready,
                _ if lost => {
                    let shape = record.shape.clone();
                    let stranded = match nowhere_to_go.get(&shape) {
                        Some(stranded) => *stranded,
                        None => {
                            let stranded = !self.has_candidates(&shape);
                            nowhere_to_go.insert(shape, stranded);
                            stranded
                        }
                    };
                    if stranded {
                        Standing::Stranded
                    } else {
                        Standing::Lost
                    }
                }
                _ if record.is_ready(host) => Standing::Ready,
                Phase::Waiting => Standing::Waiting,
                _ => Standing::Pending,
            };
            members.push(Member {
                number: member,
                standing,
                host: host_number,
                outdated,
                overdue,
            });
        }
        (members, leaving)
    }

    fn discard_member(&mut self, set: u32, member: u32, recreated: bool) {
        let fence = self.options.timings.fence;
        let record = self.workloads.get(member);
        let host = record
            .and_then(|record| record.place.as_ref())
            .map(|place| place.host);
        let host = host.and_then(|host| self.fleet.get(host));
        let lost_at = host.filter(|host| host.is_lost()).map(|host| host.lost_at);
        if let (true, Some(lost_at), Some(set)) = (recreated, lost_at, self.sets.get_mut(set)) {
            set.fences.push(lost_at + fence);
        }
        self.discard(member);
    }

    fn create_member(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(number) else {
            return;
        };
        let Some(object) = set.kept.object.clone() else {
            return;
        };
        let uid = set.uid.clone();
        let namespace = set.key.namespace.clone();
        let mut names = set.names;
        let revision = set.revision.clone();
        let key = loop {
            names += 1;
            let name = format!("{}-{}", object.metadata.name, suffix(&[&uid], names));
            let key = Key::new(api::Kind::Workload, namespace.clone(), name);
            if self.workloads.number(&key).is_none() {
                break key;
            }
        };
        if let Some(set) = self.sets.get_mut(number) {
            set.names = names;
        }
        self.draft_workload(object::member(&object, &key, &revision));
    }

    fn write_set(&mut self, number: u32) -> Option<Duration> {
        let now = self.now;
        let garbage = self.is_garbage_set(number);
        let set = self.sets.get(number)?;
        if !set.kept.is_free(now) {
            return set.kept.free_at(now);
        }
        let (item, key) = (Item::Set(number), set.key.clone());
        let Some(object) = set.kept.object.as_ref() else {
            let draft = set.draft.clone()?;
            if set.unwanted {
                self.set_removed(&key, "");
                return None;
            }
            self.write(item, Write::Create(Object::ReplicaSet(draft)));
            return None;
        };
        let uid = object.metadata.uid.clone();
        if object.metadata.is_deleting() {
            return None;
        }
        if set.unwanted || garbage {
            self.write(item, Write::Delete { key, uid });
            return None;
        }
        if let Some(replicas) = set.resized {
            self.write(item, Write::Replicas { key, uid, replicas });
            return None;
        }
        let status = self.wanted_set_status(number, object)?;
        // Counts come in bursts; the last word is not held back.
        let due = set.counted_at + self.options.timings.count_interval;
        let done = api::is_true(&status.conditions, names::replica_set::READY);
        if now < due && !done {
            return Some(due);
        }
        if let Some(set) = self.sets.get_mut(number) {
            set.counted_at = now;
        }
        let status = Status::ReplicaSet(status);
        self.write(
            item,
            Write::Status {
                key,
                uid,
                status,
                can_wait: true,
            },
        );
        None
    }

    fn is_garbage_set(&self, number: u32) -> bool {
        let owner = self.sets.get(number).and_then(|set| set.owner.as_ref());
        self.options.collect_garbage
            && owner.is_some_and(|owner| !self.deployments_by_uid.contains_key(owner))
    }

    fn wanted_set_status(
        &self,
        number: u32,
        object: &WorkloadReplicaSet,
    ) -> Option<WorkloadReplicaSetStatus> {
        use ConditionStatus::{False, True};
        let set = self.sets.get(number)?;
        let mut status = object.status.clone().unwrap_or_default();
        let counts = set.counts;
        let mut changed = status.replicas.replace(counts) != Some(counts);
        let ReplicaCounts {
            expected,
            current,
            ready,
            ..
        } = counts;
        let conditions = if set.is_invalid() {
            let invalid = |name| Condition::new(name, False, "Invalid", "replicas is negative");
            changed =
                status.replicas.take() != object.status.as_ref().and_then(|status| status.replicas);
            let name = names::replica_set::READY;
            vec![invalid(name)]
        } else {
            let judge = |name, holds, reason: &str, message: String| match holds {
                true => Condition::new(name, True, "Available", ""),
                false => Condition::new(name, False, reason, message),
            };
            let of = |what: &str, count: i32| format!("{count} of {expected} {what}");
            vec![
                judge(
                    names::replica_set::SCALE_UP,
                    current >= expected,
                    "Reconcile",
                    of("are there", current),
                ),
                judge(
                    names::replica_set::SCALE_DOWN,
                    current <= expected,
                    "Reconcile",
                    of("are there", current),
                ),
                judge(
                    names::replica_set::READY,
                    ready >= expected && current == expected,
                    "Reconcile",
                    of("are ready", ready),
                ),
            ]
        };
        for mut condition in conditions {
            condition.observed_generation = object.metadata.generation;
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        changed.then_some(status)
    }

    pub(super) fn set_written(
        &mut self,
        number: u32,
        result: Result<Arc<WorkloadReplicaSet>, WriteError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(set) = self.sets.get_mut(number) else {
            return;
        };
        set.kept.end(now, retry, result.as_ref().err());
        let (key, uid) = (set.key.clone(), set.uid.to_string());
        let created = set.draft.is_none();
        match result {
            Ok(object) => self.apply_set(object),
            Err(WriteError::NotFound) if created => self.set_removed(&key, &uid),
            Err(WriteError::Refused(message)) if !created => {
                self.set_refused(number, message);
            }
            Err(_) => {}
        }
        self.agenda.look_at(Item::Set(number));
    }

    /// It is tried again, with the pause that the record keeps.
    fn set_refused(&mut self, number: u32, message: String) {
        if let Some(deployment) = self
            .deployment_of(number)
            .and_then(|number| self.deployments.get(number))
        {
            let (key, uid) = (deployment.key.clone(), deployment.uid.to_string());
            self.warn(key, uid, "FailedCreate", message);
        }
    }
}

/// Workloads that are on their way out.
#[derive(Debug, Default)]
struct Leaving {
    /// That may still run.
    going: u32,
    /// Of which the store does not know yet.
    undeleted: u32,
    /// When the next one has waited long enough on a host that is drained.
    overdue_at: Option<Duration>,
}

impl Leaving {
    /// Whether that time has come; if not, it is kept in mind.
    fn is_over(&mut self, at: Option<Duration>, now: Duration) -> bool {
        let over = at.is_some_and(|at| now >= at);
        if !over {
            self.overdue_at = self.overdue_at.into_iter().chain(at).min();
        }
        over
    }
}
