//! A number of equal workloads: made, replaced, taken away.

mod balance;
mod members;
mod object;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Scheduler;
use super::agenda::Item;
use super::backoff::Backoff;
use super::kept::Kept;
use super::placement::Spread;
use crate::api::{self, Key, Object, ReplicaCounts, WorkloadReplicaSet};
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
}
