//! The fleet of the model scheduler: who is there, who is gone, and what it means.

use std::time::Instant;

use serde_json::{Value, json};

use super::reply::{member, refuses};
use super::state::{Host, Phase, times};
use super::{About, Model, Mutant, Outcome, Response, Variant};
use crate::wire::nats::{Delivery, HEARTBEAT_PREFIX};

/// So many hosts have to vanish at once for the broker to be suspected.
const CROWD: usize = 3;

impl Model {
    pub(super) fn heartbeat(&mut self, delivery: &Delivery) {
        self.now = Instant::now();
        if self.is(Mutant::GarbageEndsHeartbeats) && self.hosts.contains_key("(garbage)") {
            return;
        }
        let json: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
        let json = json.filter(|json| json.is_object());
        let json = json.filter(|json| !refuses(json, "HostHeartbeat", self.options.mutant));
        let Some(beat) = json else {
            if self.is(Mutant::GarbageEndsHeartbeats) {
                let garbage = self.host_of(json!({}), None);
                self.hosts.insert("(garbage)".to_owned(), garbage);
            }
            return;
        };
        let text = |name: &str| beat.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(mut id) = text("id") else { return };
        let of_subject = delivery.subject.strip_prefix(HEARTBEAT_PREFIX);
        if of_subject != Some(&id) && !self.is(Mutant::TrustsThePayloadId) {
            return;
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let legal = !id.is_empty() && id.bytes().all(token);
        if !legal && !self.is(Mutant::TakesAnyHostId) {
            return;
        }
        let name = text("friendlyName").unwrap_or_default();
        let proper = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        if self.is(Mutant::WantsLegalNames) && !proper(&name) {
            return;
        }
        if self.is(Mutant::HostsByFriendlyName)
            && let Some(known) = self.hosts.iter().find(|(_, host)| {
                host.beat.get("friendlyName").and_then(Value::as_str) == Some(&name)
            })
        {
            id = known.0.clone();
        }
        let started = member(&beat, "startedAt", "started_at", self.options.mutant);
        let started = started.and_then(Value::as_str).map(str::to_owned);
        self.heard_beat(&id, beat, started);
    }

    fn heard_beat(&mut self, id: &str, beat: Value, started: Option<String>) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            let host = self.host_of(beat, started);
            self.hosts.insert(id.to_owned(), host);
            self.host_returned(id);
            return;
        };
        let restarted =
            started.is_some() && host.started_at.is_some() && host.started_at != started;
        let returned = host.lost;
        if host.beats == 0 {
            host.known_at = now;
        }
        host.beats += 1;
        host.heard = now;
        host.beat_at = now;
        host.beaten = true;
        host.deaf = None;
        host.in_crowd = false;
        host.started_at = started;
        if self.options.mutant != Some(Mutant::FirstHeartbeatForEver) {
            host.beat = beat;
        }
        if returned && self.options.mutant != Some(Mutant::LostForEver) {
            host.lost = false;
            self.host_returned(id);
        }
        if restarted && !self.is(Mutant::OneIdOneProcess) {
            self.process_ended(id);
        }
    }

    fn host_of(&self, beat: Value, started_at: Option<String>) -> Host {
        Host {
            beat,
            started_at,
            heard: self.now,
            beat_at: self.now,
            beaten: true,
            deaf: None,
            in_crowd: false,
            lost: false,
            owes_until: None,
            probe_at: self.now + times::PROBE,
            probing: false,
            known_at: self.now,
            beats: 1,
        }
    }

    /// A host that was written down before, and has not been heard of by this process.
    pub(super) fn remembered_host(&self) -> Host {
        Host {
            beaten: false,
            beats: 0,
            ..self.host_of(json!({}), None)
        }
    }

    /// Whether a host may get work.
    pub(super) fn is_usable(&self, host: &Host) -> bool {
        let registered = match self.options.mutant {
            // The second heartbeat may be seconds away.
            Some(Mutant::SecondHeartbeatRegisters) => host.beats > 12,
            Some(Mutant::WantsHeartbeatReply) => {
                host.beats > 0 && host.beat.get("answered").is_some()
            }
            _ if self.varies(Variant::Unhurried) => {
                host.beats > 0 && self.now >= host.known_at + times::LATE_REGISTER
            }
            _ => host.beats > 0,
        };
        let fresh = !host.lost && (host.deaf.is_none() || self.is(Mutant::SticksToTheFirstHost));
        registered && (fresh || self.is(Mutant::TrustsAStaleHeartbeat))
    }

    /// Probes who is due, and concludes from silence.
    pub(super) async fn watch_fleet(&mut self) {
        if !self.connected && !self.is(Mutant::OwnSilenceIsTheirs) {
            return;
        }
        let mut lost = Vec::new();
        let mut probes = Vec::new();
        if self.crowd() {
            self.crowd_at = Some(self.now);
        }
        let crowd = self.crowd_at.is_some_and(|at| self.now < at + times::CROWD);
        for host in self.hosts.values_mut().filter(|host| host.deaf.is_some()) {
            host.in_crowd |= crowd;
        }
        for (id, host) in &self.hosts {
            if host.lost || id.starts_with('(') {
                continue;
            }
            if self.is_gone(host) {
                lost.push(id.clone());
            } else if !host.probing && self.now >= host.probe_at && self.connected {
                probes.push(id.clone());
            }
        }
        for id in lost {
            self.lose(&id);
        }
        for id in probes {
            let every = self.probe_every(&id);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.probing = true;
                host.probe_at = self.now + every;
            }
            let command = match self.options.mutant {
                Some(Mutant::ProbesWithHeartbeats) => "heartbeat",
                Some(Mutant::ListsWorkloads) => "workload.list",
                _ => "workload.status",
            };
            let payload = json!({ "workloadId": format!("probe-{}", self.calls) }).to_string();
            self.send(&id, command, payload, About::Probe).await;
        }
    }

    fn probe_every(&self, id: &str) -> std::time::Duration {
        let deaf = self.hosts.get(id).is_some_and(|host| host.deaf.is_some());
        match deaf {
            true => times::PROBE_DEAF,
            false if self.varies(Variant::RareProbes) => times::PROBE * 2,
            false => times::PROBE,
        }
    }

    fn settle(&self) -> std::time::Duration {
        match self.varies(Variant::Unhurried) {
            true => times::LATE_SETTLE,
            false => times::SETTLE,
        }
    }

    /// Asks everyone now: whether one host is gone or a crowd shows only then.
    fn ask_all(&mut self) {
        if self.now < self.asked_all_at + times::PROBE_ALL {
            return;
        }
        self.asked_all_at = self.now;
        for host in self.hosts.values_mut().filter(|host| !host.lost) {
            host.probe_at = host.probe_at.min(self.now);
        }
    }

    /// Whether so many hosts are deaf at once that the broker is suspected.
    fn crowd(&self) -> bool {
        let alive = self.hosts.values().filter(|host| !host.lost).count();
        let deaf = self
            .hosts
            .values()
            .filter(|host| !host.lost && host.deaf.is_some())
            .count();
        deaf >= CROWD && deaf * 2 >= alive
    }

    fn is_gone(&self, host: &Host) -> bool {
        let silent = self.now.saturating_duration_since(host.heard);
        if self.is(Mutant::OwnSilenceIsTheirs) && !self.connected {
            return silent > std::time::Duration::from_secs(2);
        }
        let unheard = self.now.saturating_duration_since(host.beat_at);
        if self.is(Mutant::MissedBeatsAreDeath) && unheard > times::SILENCE / 2 {
            return true;
        }
        if let Some((since, times_seen)) = host.deaf {
            let deaf_for = self.now.saturating_duration_since(since);
            if self.is(Mutant::OneNoRespondersIsDeath) {
                return true;
            }
            // Nobody listening proves nothing of those that have not come back to this connection yet.
            let unsettled = !host.beaten
                && self.now < self.connected_at + self.settle()
                && !self.is(Mutant::NoSettling);
            // Also when the others are back: they need not all be found again at once.
            let suspect = host.in_crowd && !self.is(Mutant::BelievesTheCrowd);
            let suspect = suspect && deaf_for < self.settle();
            if suspect || unsettled {
                return false;
            }
            let confirmed = times_seen >= 3 && deaf_for >= times::DEAF_FOR;
            let ignored = matches!(
                self.options.mutant,
                Some(Mutant::WaitsForSilence | Mutant::WaitsForEverAfterOutage)
            );
            if confirmed && !(ignored && (!host.beaten || self.is(Mutant::WaitsForSilence))) {
                return true;
            }
        }
        if self.is(Mutant::WaitsForNoResponders) || self.is(Mutant::WaitsForEverAfterOutage) {
            return false;
        }
        let busy =
            host.owes_until.is_some_and(|until| self.now < until) && !self.is(Mutant::BusyIsDead);
        let settle = if host.beaten || self.is(Mutant::NoSettling) {
            times::SILENCE
        } else {
            self.settle()
        };
        let settled = self.now >= self.connected_at + settle;
        let limit = match self.options.mutant {
            Some(Mutant::WaitsForSilence) => times::SILENCE * 4,
            _ => times::SILENCE,
        };
        silent > limit && settled && !busy
    }

    /// Goes on without any of them: by a mutant only.
    pub(super) fn lose_all(&mut self) {
        let all: Vec<String> = self.hosts.keys().cloned().collect();
        all.iter().for_each(|id| self.lose(id));
    }

    /// Goes on without a host.
    fn lose(&mut self, id: &str) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.lost = true;
        let heard = host.heard;
        if self.is(Mutant::DeletesOnSilence) {
            self.delete_what_ran_on(id);
        }
        for index in 0..self.kept.replicas.len() {
            let Some(replica) = self.kept.replicas.get_mut(index) else {
                continue;
            };
            if replica.host.as_deref() != Some(id) || replica.phase == Phase::Completed {
                continue;
            }
            if self.options.mutant == Some(Mutant::NeverReplaces) {
                continue;
            }
            let (ending, owner) = (
                crate::models::scheduler::incarnation::ending_of(replica, self.now, true),
                replica.owner.clone(),
            );
            replica.wait("its host is gone", self.now);
            let fenced = self.is_recreate(&owner) && !self.is(Mutant::RecreatesWithoutFence);
            if let (true, Some(replica)) = (fenced, self.kept.replicas.get_mut(index)) {
                replica.not_before = heard + times::FENCE;
            }
            let forgets = self.is(Mutant::ForgetsTheLost);
            self.kept.endings.extend(ending.filter(|_| !forgets));
        }
        for ending in self
            .kept
            .endings
            .iter_mut()
            .filter(|ending| ending.host == id)
        {
            ending.orphan = true;
            ending.asking = false;
        }
        self.dirty = true;
    }

    /// What is not wanted on it any more is stopped.
    fn host_returned(&mut self, id: &str) {
        for ending in self
            .kept
            .endings
            .iter_mut()
            .filter(|ending| ending.host == id)
        {
            ending.orphan = false;
            ending.not_before = self.now;
        }
    }

    /// Another process is behind the id: nothing of the earlier one is left.
    fn process_ended(&mut self, id: &str) {
        self.kept.endings.retain(|ending| ending.host != id);
        for replica in &mut self.kept.replicas {
            if replica.host.as_deref() == Some(id) && replica.phase != Phase::Completed {
                replica.wait("its host was started anew", self.now);
            }
        }
        self.dirty = true;
    }

    pub(super) fn probed(&mut self, answer: &Response) {
        let now = self.now;
        let slow_is_dead = self.is(Mutant::SlowIsDead);
        let Some(host) = self.hosts.get_mut(&answer.host) else {
            return;
        };
        if matches!(answer.about, About::Probe) {
            host.probing = false;
        }
        match answer.outcome {
            Outcome::Reply(_) => {
                if !slow_is_dead {
                    host.heard = now;
                }
                host.deaf = None;
                host.in_crowd = false;
            }
            Outcome::Nobody => {
                let (since, seen) = host.deaf.unwrap_or((now, 0));
                host.deaf = Some((since, seen + 1));
                host.probe_at = host.probe_at.min(now + times::PROBE_DEAF);
                if seen == 0 {
                    self.ask_all();
                }
            }
            Outcome::Silence | Outcome::Unsent | Outcome::TooLarge => {}
        }
    }
}
