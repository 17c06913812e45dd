//! The dispatch of waiting replicas: a host, an id and a start request for each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::request::{Blocked, RequestBuilder};
use super::state::{PendingStop, Phase, Replica};
use super::{Host, Model, Mutant, Variant, placement};

/// Host on which a mutant starts the twin of a replica: the same replica again, under another id.
#[derive(Clone, Copy, Debug)]
enum TwinHost {
    /// The host of the replica.
    Same,
    /// Another host.
    Other,
}

impl Model {
    /// Assigns a host, an id and a start request to a replica.
    ///
    /// Returns `false` if the replica has to wait, and records the reason in the replica.
    pub(super) fn assign_host(&mut self, index: usize) -> bool {
        let Some(replica) = self.persisted.replicas.get(index) else {
            return false;
        };
        let number = replica.number;
        let is_previous =
            |stop: &PendingStop| stop.replica == number && !stop.on_lost_host && !stop.finished;
        let mut pending_stops = self.persisted.pending_stops.iter();
        if pending_stops.any(is_previous) && !self.is(Mutant::StartsOnTwoHosts) {
            return false;
        }
        let is_first_attempt = replica.request.is_empty();
        let id = self.make_id(replica);
        let request = self.make_request(replica, &id);
        let assignment = request.and_then(|request| Ok((self.choose_host(replica)?, request)));
        let now = self.now;
        let queues_attempts = self.is(Mutant::QueuesPlacementAttempts);
        let hides_reason = self.is(Mutant::HidesWaitingReason);
        let never_retries =
            self.is(Mutant::NeverRetriesPlacement) || self.is(Mutant::NeverRetriesReferences);
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return false;
        };
        match assignment {
            Err(Blocked(reason)) => {
                let reason = if hides_reason { String::new() } else { reason };
                if replica.message != reason {
                    replica.message = reason;
                }
                if never_retries {
                    replica.not_before = now + Duration::from_secs(3600);
                }
                if queues_attempts {
                    replica.failures += 1;
                }
                false
            }
            Ok((host, request)) => {
                // The host is persisted before the start is sent, so that it is watched after a
                // restart of the scheduler.
                self.persisted.hosts.insert(host.clone());
                replica.host = Some(host);
                replica.id = Some(id);
                replica.phase = Phase::Sent;
                replica.attempts += 1;
                replica.requested_at = now;
                replica.message = "starting".to_owned();
                if is_first_attempt {
                    replica.request = request;
                }
                let (number, failures) = (replica.number, replica.failures);
                self.dirty = true;
                if queues_attempts && failures > 0 {
                    self.start_twin(number, TwinHost::Same);
                }
                if self.is(Mutant::StartsOnTwoHosts) {
                    self.start_twin(number, TwinHost::Other);
                }
                true
            }
        }
    }

    /// Starts the twin of a replica, for mutants.
    fn start_twin(&mut self, number: u64, twin_host: TwinHost) {
        let replica = self
            .persisted
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
        let other = self.hosts.iter().find(|(other, state)| {
            **other != host
                && self.is_usable(state)
                && placement::check_host(&spec, other, &state.heartbeat, None).is_ok()
        });
        let target = match (twin_host, other) {
            (TwinHost::Same, _) => host,
            (TwinHost::Other, Some((other, _))) => other.clone(),
            (TwinHost::Other, None) => return,
        };
        let twin = format!("{id}-twin");
        self.pending_resends
            .push((target, 0, twin.clone(), request.replace(&id, &twin)));
    }

    fn make_id(&self, replica: &Replica) -> String {
        if self.is(Mutant::IdsFromNames) {
            return replica.owner.clone();
        }
        if self.is(Mutant::ReusesIds) {
            return format!("{}/{}", replica.owner, replica.number);
        }
        let id = format!("{:032x}", rand::random::<u128>());
        if self.has_variant(Variant::LongIds) {
            format!("{id:0>200}")
        } else {
            id
        }
    }

    fn make_request(&self, replica: &Replica, id: &str) -> Result<String, Blocked> {
        let builder = RequestBuilder {
            objects: self.store.objects(),
            namespace: &replica.namespace,
            mutant: self.options.mutant,
        };
        let workload = builder.workload(&replica.name, &replica.spec, &replica.annotations)?;
        Ok(json!({ "workloadId": id, "workload": workload }).to_string())
    }

    /// Checks that an isolated host belongs to the namespace of a replica.
    fn check_isolation(
        &self,
        replica: &Replica,
        id: &str,
        heartbeat: &Value,
    ) -> Result<(), String> {
        let environment = heartbeat.get("environment").and_then(Value::as_str);
        let pin = replica.spec.get("hostId").and_then(Value::as_str);
        let is_exempt = pin == Some(id) && self.is(Mutant::PinOverridesIsolation);
        if self.options.isolated && environment != Some(&replica.namespace) && !is_exempt {
            return Err("in another environment".to_owned());
        }
        Ok(())
    }

    /// Chooses the best host for a replica.
    fn choose_host(&self, replica: &Replica) -> Result<String, Blocked> {
        let mutant = self.options.mutant;
        let mut reasons = BTreeMap::<String, usize>::new();
        let mut feasible = Vec::new();
        for (id, host) in self.hosts.iter().filter(|(_, host)| self.is_usable(host)) {
            let result = self
                .check_isolation(replica, id, &host.heartbeat)
                .and_then(|()| placement::check_host(&replica.spec, id, &host.heartbeat, mutant));
            match result {
                Ok(()) => feasible.push((id, host)),
                Err(reason) => *reasons.entry(reason).or_default() += 1,
            }
        }
        if let (Some(Mutant::UnvalidatedPin), Some(pin)) =
            (mutant, replica.spec.get("hostId").and_then(Value::as_str))
        {
            return Ok(pin.to_owned());
        }
        let has_failed_on = |id: &&String| replica.last_failed_host.as_ref() == Some(*id);
        let rank = |(id, host): &(&String, &Host)| {
            let is_on_host = |other: &&Replica| other.host.as_ref() == Some(*id);
            let on_host = self.persisted.replicas.iter().filter(is_on_host);
            let is_of_owner = |other: &&Replica| other.owner == replica.owner;
            let of_owner = on_host.clone().filter(is_of_owner).count();
            let is_overloaded = placement::is_overloaded(&host.heartbeat, mutant)
                && mutant != Some(Mutant::IgnoresLoad);
            let prefers_failed = matches!(
                mutant,
                Some(Mutant::RetriesRefusingHost | Mutant::RetriesHostWithoutResponders)
            );
            let (of_owner, all) = if mutant == Some(Mutant::NeverSpreads) {
                (0, 0)
            } else {
                (of_owner, on_host.count())
            };
            (
                has_failed_on(id) && !prefers_failed,
                has_failed_on(id) != prefers_failed,
                is_overloaded,
                of_owner,
                all,
            )
        };
        feasible.sort_by_key(rank);
        let best = feasible.first().map(|(id, _)| (*id).clone());
        best.ok_or_else(|| {
            let hosts: usize = reasons.values().sum();
            let reasons: Vec<String> = reasons
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            Blocked(format!("0 of {hosts} hosts fit: {}", reasons.join(", ")))
        })
    }
}
