//! From what is wanted to replicas: sets that grow and shrink, rollouts, deletions.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::incarnation::ending_of;
use super::request::NotYet;
use super::state::{Phase, Replica};
use super::{Model, Mutant, Variant};

/// What is wanted under one name.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub owner: String,
    pub namespace: String,
    pub name: String,
    pub replicas: usize,
    pub recreate: bool,
    pub revision: String,
    pub spec: Value,
    pub annotations: Value,
    pub bare: bool,
}

impl Model {
    /// What an accepted object wants, its artifacts resolved.
    pub(super) fn wanted(&self, owner: &str, object: &Value) -> Result<Wanted, NotYet> {
        let text = |pointer: &str| {
            let text = object.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let kind = text("/kind");
        let bare = kind == "Workload";
        let base = if bare { "/spec" } else { "/spec/template/spec" };
        let mut spec = object.pointer(base).cloned().unwrap_or_else(|| json!({}));
        if let (false, Some(kubernetes)) = (bare, object.pointer("/spec/kubernetes"))
            && let Some(spec) = spec.as_object_mut()
        {
            spec.insert("kubernetes".to_owned(), kubernetes.clone());
        }
        self.resolve_artifacts(object, &mut spec)?;
        let replicas = object
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(1)
            .max(0);
        let annotations = if bare {
            "/metadata/annotations"
        } else {
            "/spec/template/annotations"
        };
        Ok(Wanted {
            owner: owner.to_owned(),
            namespace: owner.split('/').nth(1).unwrap_or_default().to_owned(),
            name: text("/metadata/name"),
            replicas: if bare {
                1
            } else {
                usize::try_from(replicas).unwrap_or(0)
            },
            recreate: bare || text("/spec/deployPolicy") == "Recreate",
            revision: crate::models::scheduler::manifest_store::hash(&spec.to_string()),
            spec,
            annotations: object.pointer(annotations).cloned().unwrap_or_default(),
            bare,
        })
    }

    fn resolve_artifacts(&self, object: &Value, spec: &mut Value) -> Result<(), NotYet> {
        if self.is(Mutant::SendsArtifactReferences) {
            return Ok(());
        }
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or("default");
        let image_of = |image: &str| -> Option<Result<String, NotYet>> {
            let entry = image.strip_prefix("artifact://")?;
            let listed = object.pointer("/spec/artifacts").and_then(Value::as_array);
            let mut listed = listed.into_iter().flatten();
            let named = listed.find(|item| item.get("name").and_then(Value::as_str) == Some(entry));
            let name = named
                .and_then(|item| item.pointer("/artifactFrom/name"))
                .and_then(Value::as_str)
                .unwrap_or(entry);
            let key = format!("Artifact/{namespace}/{name}");
            let found = self
                .desk
                .artifact(&key, self.is(Mutant::ReadsArtifactsOnce));
            Some(match found {
                Some(image) => Ok(image),
                None if self.is(Mutant::StartsWithoutTheArtifact) => Ok(image.to_owned()),
                None => Err(NotYet(format!("there is no Artifact {name}"))),
            })
        };
        let mut parts: Vec<&mut Value> = Vec::new();
        if let Some(spec) = spec.as_object_mut() {
            for (name, part) in spec.iter_mut() {
                match (name.as_str(), part) {
                    ("components", Value::Array(components)) => parts.extend(components.iter_mut()),
                    ("service", service) => parts.push(service),
                    _ => {}
                }
            }
        }
        for part in parts {
            let image = part.get("image").and_then(Value::as_str).and_then(image_of);
            if let (Some(image), Some(part)) = (image, part.as_object_mut()) {
                part.insert("image".to_owned(), json!(image?));
            }
        }
        Ok(())
    }

    /// Brings the replicas of every object to what is wanted.
    pub(super) fn reconcile(&mut self) {
        let owners: Vec<(String, Value)> = self
            .kept
            .accepted
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (owner, object) in owners {
            match self.wanted(&owner, &object) {
                Ok(wanted) => {
                    self.desk.note(&owner, None);
                    let wanted = self.altered(wanted);
                    self.bring_to(wanted);
                }
                Err(NotYet(reason)) => self.desk.note(&owner, Some(reason)),
            }
        }
        let gone: Vec<usize> = (0..self.kept.replicas.len())
            .filter(|index| {
                let replica = self.kept.replicas.get(*index);
                replica.is_some_and(|replica| !self.kept.accepted.contains_key(&replica.owner))
            })
            .collect();
        self.delete(gone);
        if self.is(Mutant::Rebalances) {
            self.rebalance();
        }
    }

    /// What a mutant makes of it.
    fn altered(&mut self, mut wanted: Wanted) -> Wanted {
        let owner = wanted.owner.clone();
        if self.is(Mutant::OneTooFew) && wanted.replicas > 1 {
            wanted.replicas -= 1;
        }
        if self.is(Mutant::ZeroIsOne) {
            wanted.replicas = wanted.replicas.max(1);
        }
        let mine = || {
            self.kept
                .replicas
                .iter()
                .filter(|replica| replica.owner == owner)
        };
        let current = mine()
            .find(|replica| replica.is_ready())
            .map(|replica| replica.revision.clone());
        let failing = mine()
            .find(|replica| replica.failures > 0)
            .map(|replica| replica.revision.clone());
        let pinned = match self.options.mutant {
            Some(Mutant::IgnoresTheNewTemplate) => current,
            Some(Mutant::StuckForGood) => failing,
            Some(Mutant::NoWayBack) => self.desk.forbidden(&owner, &wanted.revision),
            _ => None,
        };
        if let Some(revision) = pinned
            && let Some(replica) = mine().find(|replica| replica.revision == revision)
        {
            (wanted.spec, wanted.revision) = (replica.spec.clone(), revision);
        }
        if self.is(Mutant::ScaleLostInRollout) {
            let rolling = mine().any(|replica| replica.revision != wanted.revision);
            wanted.replicas = self.desk.replicas_at_rest(&owner, wanted.replicas, rolling);
        }
        if self.is(Mutant::RecreateOverlaps) {
            wanted.recreate = false;
        }
        wanted
    }

    /// Whether replicas of it must not overlap.
    pub(super) fn is_recreate(&self, owner: &str) -> bool {
        let object = self.kept.accepted.get(owner);
        let policy = object.and_then(|object| object.pointer("/spec/deployPolicy"));
        policy.and_then(Value::as_str) == Some("Recreate")
    }

    fn of(&self, owner: &str, revision: Option<&str>, other: bool) -> Vec<usize> {
        let wanted = |replica: &Replica| {
            let same = revision.is_none_or(|revision| replica.revision == revision);
            replica.owner == owner && same != other
        };
        let replicas = self.kept.replicas.iter().enumerate();
        replicas
            .filter(|(_, replica)| wanted(replica))
            .map(|(index, _)| index)
            .collect()
    }

    fn bring_to(&mut self, wanted: Wanted) {
        let revision = Some(wanted.revision.as_str());
        let old = self.of(&wanted.owner, revision, true);
        let new = self.of(&wanted.owner, revision, false);
        if wanted.recreate && !old.is_empty() {
            return self.end(old);
        }
        let leftover = |ending: &crate::models::scheduler::state::Ending| {
            ending.owner == wanted.owner && !ending.orphan && !ending.over
        };
        if wanted.recreate && new.is_empty() && self.kept.endings.iter().any(leftover) {
            return;
        }
        let n = wanted.replicas;
        let surge = match self.options.mutant {
            Some(Mutant::AllAtOnce) => n,
            _ => n.div_ceil(4),
        };
        let rolling = !old.is_empty();
        let room = match self.options.mutant {
            Some(Mutant::SurgesWithoutBound) if rolling => n * 3,
            _ if rolling => n + surge,
            _ => n.max(new.len()),
        };
        let goal = match self.options.mutant {
            Some(Mutant::SurgesWithoutBound) if rolling => n * 2,
            Some(Mutant::CountsLate) if self.desk.counts_again(&wanted.owner) => n + new.len(),
            _ => n,
        };
        let room = room.max(if self.is(Mutant::CountsLate) { goal } else { 0 });
        let missing = goal
            .saturating_sub(new.len())
            .min(room.saturating_sub(new.len() + old.len()));
        let grows = !new.is_empty() && missing > 0 && !rolling;
        if grows && self.is(Mutant::GrowthRestarts) {
            return self.end(new);
        }
        for _ in 0..missing {
            self.make(&wanted);
        }
        if missing == 0 && !self.is(Mutant::SurgesWithoutBound) {
            self.shrink(&wanted, &new, rolling);
        }
        self.retire(&wanted, n, rolling);
    }

    fn make(&mut self, wanted: &Wanted) {
        self.kept.numbers += 1;
        let random: String = format!("{:08x}", rand::random::<u32>());
        let name = match wanted.bare {
            true => wanted.name.clone(),
            false => format!("{}-{}-{random}", wanted.name, wanted.revision),
        };
        self.kept.replicas.push(Replica {
            number: self.kept.numbers,
            name,
            namespace: wanted.namespace.clone(),
            owner: wanted.owner.clone(),
            revision: wanted.revision.clone(),
            spec: wanted.spec.clone(),
            annotations: wanted.annotations.clone(),
            id: None,
            host: None,
            phase: Phase::Waiting,
            message: String::new(),
            request: String::new(),
            attempts: 0,
            failures: 0,
            refused_by: None,
            not_before: self.now,
            asked_at: self.now,
            asking: false,
            since: self.now,
        });
        self.dirty = true;
    }

    /// Of too many of the right ones, those that are not ready go first, then the youngest.
    fn shrink(&mut self, wanted: &Wanted, new: &[usize], rolling: bool) {
        let surplus = new.len().saturating_sub(wanted.replicas);
        if surplus == 0 || self.is(Mutant::StopsNothingOnScaleDown) {
            return;
        }
        if self.is(Mutant::ShrinksByReplacing) && !rolling {
            return self.end(new.to_vec());
        }
        let mut victims = new.to_vec();
        let blind = self.is(Mutant::ShrinksBlindly);
        let oldest = blind || self.varies(Variant::OldestFirst);
        victims.sort_by_key(|index| {
            let replica = self.kept.replicas.get(*index);
            let ready = replica.is_some_and(Replica::is_ready);
            let number = replica.map_or(0, |replica| replica.number);
            let age = if oldest { number } else { u64::MAX - number };
            (if blind { !ready } else { ready }, age)
        });
        victims.truncate(surplus);
        self.end(victims);
    }

    /// Of earlier templates, what is not ready goes at once, and what is ready as others are ready in its place.
    fn retire(&mut self, wanted: &Wanted, n: usize, rolling: bool) {
        if !rolling {
            return;
        }
        let old = self.of(&wanted.owner, Some(&wanted.revision), true);
        let new = self.of(&wanted.owner, Some(&wanted.revision), false);
        let is_ready = |index: &usize| {
            self.kept
                .replicas
                .get(*index)
                .is_some_and(Replica::is_ready)
        };
        let (ready, unready): (Vec<usize>, Vec<usize>) =
            old.iter().copied().partition(|index| is_ready(index));
        let serving = match self.options.mutant {
            Some(Mutant::StopsTheOldOnFaith) => ready.len() + new.len(),
            _ => ready.len() + new.iter().filter(|index| is_ready(index)).count(),
        };
        let mut victims = unready;
        let dispensable = match self.options.mutant {
            Some(Mutant::StopsFirst) => ready.len(),
            _ => serving.saturating_sub(n).min(ready.len()),
        };
        victims.extend(ready.iter().copied().take(dispensable));
        if self.is(Mutant::DropsTheLastGood) {
            let before = self.desk.previous_revision(&wanted.owner, &wanted.revision);
            let older = ready.iter().copied().filter(|index| {
                let replica = self.kept.replicas.get(*index);
                before.is_some() && replica.map(|replica| replica.revision.clone()) != before
            });
            victims.extend(older);
            victims.sort_unstable();
            victims.dedup();
        }
        if self.is(Mutant::SurgesWithoutBound)
            && new.iter().filter(|index| is_ready(index)).count() < n * 2
        {
            return;
        }
        self.end(victims);
    }

    /// These replicas are not wanted any more.
    fn end(&mut self, mut indices: Vec<usize>) {
        indices.sort_unstable();
        for index in indices.into_iter().rev() {
            if index >= self.kept.replicas.len() {
                continue;
            }
            let replica = self.kept.replicas.remove(index);
            let lost = replica
                .host
                .as_ref()
                .is_some_and(|host| self.hosts.get(host).is_some_and(|host| host.lost));
            let ending = ending_of(&replica, self.now, lost);
            let unanswered = matches!(replica.phase, Phase::Sent | Phase::Unknown);
            if self.is(Mutant::UnansweredStartUnstopped) && unanswered {
                continue;
            }
            self.kept.endings.extend(ending);
            if self.is(Mutant::StopsTheNeighbour) {
                let mut others = self.kept.replicas.iter();
                let other = others
                    .find(|other| other.phase == Phase::Running && other.owner != replica.owner);
                self.kept
                    .endings
                    .extend(other.and_then(|other| ending_of(other, self.now, false)));
            }
            self.dirty = true;
        }
    }

    /// The replicas of what was deleted.
    fn delete(&mut self, gone: Vec<usize>) {
        if gone.is_empty() {
            return;
        }
        if self.is(Mutant::ForgetsToStop) {
            let mut index = 0;
            self.kept.replicas.retain(|_| {
                index += 1;
                !gone.contains(&(index - 1))
            });
            return;
        }
        if self.is(Mutant::DeletedComesBack) {
            let now = self.now;
            let again: Vec<Replica> = gone
                .iter()
                .filter_map(|index| self.kept.replicas.get(*index))
                .filter(|replica| replica.id.is_some() && replica.failures < 100)
                .cloned()
                .collect();
            self.end(gone);
            for mut replica in again {
                self.kept.numbers += 1;
                replica.number = self.kept.numbers;
                replica.wait("once more", now + Duration::from_millis(100));
                // It is not done twice.
                replica.failures = 100;
                self.desk.haunt(replica);
            }
            return;
        }
        let spare = usize::from(self.is(Mutant::LeavesOneBehind) && gone.len() > 1);
        let (keep, gone): (Vec<usize>, Vec<usize>) = {
            let split = gone.len() - spare;
            (
                gone.iter().copied().skip(split).collect(),
                gone.iter().copied().take(split).collect(),
            )
        };
        let forgotten: Vec<u64> = keep
            .iter()
            .filter_map(|index| self.kept.replicas.get(*index))
            .map(|replica| replica.number)
            .collect();
        self.end(gone);
        self.kept
            .replicas
            .retain(|replica| !forgotten.contains(&replica.number));
    }

    /// What ran on a host goes with it, and nobody is asked: by a mutant only.
    pub(super) fn delete_what_ran_on(&mut self, host: &str) {
        let on_it = self
            .kept
            .replicas
            .iter()
            .filter(|replica| replica.host.as_deref() == Some(host));
        let owners: Vec<String> = on_it.map(|replica| replica.owner.clone()).collect();
        for owner in owners {
            self.kept.accepted.remove(&owner);
            self.desk.ignore(&owner);
        }
    }

    fn rebalance(&mut self) {
        let on = |id: &String| {
            self.kept
                .replicas
                .iter()
                .filter(|replica| replica.host.as_ref() == Some(id))
                .count()
        };
        let empties = self
            .hosts
            .iter()
            .filter(|(id, host)| self.is_usable(host) && on(id) == 0 && !id.starts_with('('));
        let empties: Vec<(&String, &crate::models::scheduler::Host)> = empties.collect();
        let movable = self.kept.replicas.iter().position(|replica| {
            let fits = |(id, host): &(&String, &crate::models::scheduler::Host)| {
                crate::models::scheduler::placement::fits(&replica.spec, id, &host.beat, None)
                    .is_ok()
            };
            let crowded = replica.host.as_ref().is_some_and(|host| on(host) > 1);
            replica.phase == Phase::Running && crowded && empties.iter().any(fits)
        });
        let now: Instant = self.now;
        if let Some(replica) = movable.and_then(|index| self.kept.replicas.get_mut(index)) {
            self.kept.endings.extend(ending_of(replica, now, false));
            replica.wait("moved", now);
        }
    }
}
