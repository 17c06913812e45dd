//! The workloads of a replica set: as many as there should be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::balance::{Balance, Member, Standing};
use super::{DEBOUNCE, ReplicaSet, object, suffix};
use crate::api::{self, DeployPolicy, Key, ReplicaCounts};
use crate::breakage::Breakage;
use crate::core::agenda::Item;
use crate::core::workload::Phase;
use crate::core::{Scheduler, fleet};

impl Scheduler {
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
    pub(super) fn balance(&mut self, number: u32) -> Option<Duration> {
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
    pub(in crate::core) fn count_set(&mut self, number: u32) {
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
                let lost = host.is_some_and(fleet::Host::is_lost);
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
