//! Who waits gets a host, an id and a request.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::request::{Maker, NotYet};
use super::state::{Ending, Phase, Replica};
use super::{Host, Model, Mutant, Variant, placement};

impl Model {
    /// Finds a host and makes the request; `false` when it has to wait, and says why.
    pub(super) fn place(&mut self, index: usize) -> bool {
        let Some(replica) = self.kept.replicas.get(index) else {
            return false;
        };
        let number = replica.number;
        let ends = |ending: &Ending| ending.replica == number && !ending.orphan && !ending.over;
        if self.kept.endings.iter().any(ends) && !self.is(Mutant::StartsInTwoPlaces) {
            return false;
        }
        let fresh = replica.request.is_empty();
        let id = self.make_id(replica);
        let made = self.make_request(replica, &id);
        let chosen = made.and_then(|request| Ok((self.choose(replica)?, request)));
        let now = self.now;
        let (waits_again, silent) = (
            self.is(Mutant::QueuesWhileWaiting),
            self.is(Mutant::WaitsWithoutAWord),
        );
        let gone = self.is(Mutant::NeverLooksAgain) || self.is(Mutant::NeverLooksUpAgain);
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return false;
        };
        match chosen {
            Err(NotYet(reason)) => {
                let reason = if silent { String::new() } else { reason };
                if replica.message != reason {
                    replica.message = reason;
                }
                if gone {
                    replica.not_before = now + Duration::from_secs(3600);
                }
                if waits_again {
                    replica.failures += 1;
                }
                false
            }
            Ok((host, request)) => {
                // With the replica, before the start is sent: who is back must know whom to watch.
                self.kept.hosts.insert(host.clone());
                replica.host = Some(host);
                replica.id = Some(id);
                replica.phase = Phase::Sent;
                replica.attempts += 1;
                replica.asked_at = now;
                replica.message = "starting".to_owned();
                if fresh {
                    replica.request = request;
                }
                let (number, failures) = (replica.number, replica.failures);
                self.dirty = true;
                if waits_again && failures > 0 {
                    self.double(number, false);
                }
                if self.is(Mutant::StartsInTwoPlaces) {
                    self.double(number, true);
                }
                true
            }
        }
    }

    /// The same once more under another id, elsewhere or not: by mutants only.
    fn double(&mut self, number: u64, elsewhere: bool) {
        let replica = self
            .kept
            .replicas
            .iter()
            .find(|replica| replica.number == number);
        let Some((id, host, request)) = replica.and_then(|replica| {
            Some((
                replica.id.clone()?,
                replica.host.clone()?,
                replica.request.clone(),
            ))
        }) else {
            return;
        };
        let spec = replica
            .map(|replica| replica.spec.clone())
            .unwrap_or_default();
        let other = self.hosts.iter().find(|(other, view)| {
            **other != host
                && self.is_usable(view)
                && placement::fits(&spec, other, &view.beat, None).is_ok()
        });
        let to = match (elsewhere, other) {
            (false, _) => host,
            (true, Some((other, _))) => other.clone(),
            (true, None) => return,
        };
        let twin = format!("{id}-twin");
        self.resend
            .push((to, 0, twin.clone(), request.replace(&id, &twin)));
    }

    fn make_id(&self, replica: &Replica) -> String {
        if self.is(Mutant::IdsFromNames) {
            return replica.owner.clone();
        }
        if self.is(Mutant::ReusesIds) {
            return format!("{}/{}", replica.owner, replica.number);
        }
        match self.varies(Variant::LongIds) {
            true => format!("{:0>200}", format!("{:032x}", rand::random::<u128>())),
            false => format!("{:032x}", rand::random::<u128>()),
        }
    }

    fn make_request(&self, replica: &Replica, id: &str) -> Result<String, NotYet> {
        let maker = Maker {
            objects: self.desk.objects(),
            namespace: &replica.namespace,
            mutant: self.options.mutant,
        };
        let workload = maker.workload(&replica.name, &replica.spec, &replica.annotations)?;
        Ok(json!({ "workloadId": id, "workload": workload }).to_string())
    }

    /// Whether the host is of the namespace's own, where that is asked for.
    fn is_of(&self, replica: &Replica, id: &str, beat: &Value) -> Result<(), String> {
        let theirs = beat.get("environment").and_then(Value::as_str);
        let pin = replica.spec.get("hostId").and_then(Value::as_str);
        let crosses = pin == Some(id) && self.is(Mutant::PinBeatsIsolation);
        if self.options.isolated && theirs != Some(&replica.namespace) && !crosses {
            return Err("belongs to another environment".to_owned());
        }
        Ok(())
    }

    /// The host that suits best.
    fn choose(&self, replica: &Replica) -> Result<String, NotYet> {
        let mutant = self.options.mutant;
        let mut reasons = BTreeMap::<String, usize>::new();
        let mut fitting = Vec::new();
        for (id, host) in self.hosts.iter().filter(|(_, host)| self.is_usable(host)) {
            let fits = self
                .is_of(replica, id, &host.beat)
                .and_then(|()| placement::fits(&replica.spec, id, &host.beat, mutant));
            match fits {
                Ok(()) => fitting.push((id, host)),
                Err(reason) => *reasons.entry(reason).or_default() += 1,
            }
        }
        if let (Some(Mutant::PinBecomesASubject), Some(pin)) =
            (mutant, replica.spec.get("hostId").and_then(Value::as_str))
        {
            return Ok(pin.to_owned());
        }
        let refused = |id: &&String| replica.refused_by.as_ref() == Some(*id);
        let rank = |(id, host): &(&String, &Host)| {
            let on_it = |other: &&Replica| other.host.as_ref() == Some(*id);
            let of_owner = self
                .kept
                .replicas
                .iter()
                .filter(on_it)
                .filter(|other| other.owner == replica.owner)
                .count();
            let all = self.kept.replicas.iter().filter(on_it).count();
            let loaded =
                placement::is_loaded(&host.beat, mutant) && mutant != Some(Mutant::IgnoresLoad);
            let insists = matches!(
                mutant,
                Some(Mutant::InsistsOnOneHost | Mutant::SticksToTheFirstHost)
            );
            let spread = if mutant == Some(Mutant::PilesUp) {
                0
            } else {
                of_owner
            };
            let all = if mutant == Some(Mutant::PilesUp) {
                0
            } else {
                all
            };
            (
                refused(id) && !insists,
                refused(id) != insists,
                loaded,
                spread,
                all,
            )
        };
        fitting.sort_by_key(rank);
        let best = fitting.first().map(|(id, _)| (*id).clone());
        best.ok_or_else(|| {
            let all: usize = reasons.values().sum();
            let words: Vec<String> = reasons
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            NotYet(format!("0 of {all} hosts fit: {}", words.join(", ")))
        })
    }
}
