//! The hosts of the model scheduler: heartbeats, probes and lost hosts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::incarnation::pending_stop_of;
use super::reply::{is_rejected, member};
use super::state::{Host, PendingStop, Phase, durations};
use super::{CompletedRequest, Model, Mutant, Outcome, RequestKind, Variant};
use crate::wire::nats::{Delivery, HEARTBEAT_PREFIX};

/// Minimum number of hosts without responders for a mass loss.
const MASS_LOSS_THRESHOLD: usize = 3;
/// Key by which `Mutant::MalformedHeartbeatEndsHeartbeats` records a malformed heartbeat.
pub(super) const MALFORMED_MARK: &str = "(malformed)";

impl Model {
    /// Handles a message on a heartbeat subject.
    pub(super) fn on_heartbeat(&mut self, delivery: &Delivery) {
        self.now = Instant::now();
        let has_malformed_mark = self.hosts.contains_key(MALFORMED_MARK);
        if self.is(Mutant::MalformedHeartbeatEndsHeartbeats) && has_malformed_mark {
            return;
        }
        let json: Option<Value> = serde_json::from_slice(&delivery.payload).ok();
        let json = json.filter(|json| json.is_object());
        let json = json.filter(|json| !is_rejected(json, "HostHeartbeat", self.options.mutant));
        let Some(heartbeat) = json else {
            if self.is(Mutant::MalformedHeartbeatEndsHeartbeats) {
                let mark = self.new_host(json!({}), None);
                self.hosts.insert(MALFORMED_MARK.to_owned(), mark);
            }
            return;
        };
        let text = |name: &str| {
            heartbeat
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let Some(mut id) = text("id") else { return };
        let subject_id = delivery.subject.strip_prefix(HEARTBEAT_PREFIX);
        if subject_id != Some(&id) && !self.is(Mutant::TrustsPayloadId) {
            return;
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_valid = !id.is_empty() && id.bytes().all(is_token);
        if !is_valid && !self.is(Mutant::AcceptsInvalidHostIds) {
            return;
        }
        let name = text("friendlyName").unwrap_or_default();
        let is_dns_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        if self.is(Mutant::RequiresDnsFriendlyName) && !is_dns_name(&name) {
            return;
        }
        if self.is(Mutant::IdentifiesHostsByFriendlyName)
            && let Some((known_id, _)) = self.hosts.iter().find(|(_, host)| {
                host.heartbeat.get("friendlyName").and_then(Value::as_str) == Some(&name)
            })
        {
            id = known_id.clone();
        }
        let started_at = member(&heartbeat, "startedAt", "started_at", self.options.mutant);
        let started_at = started_at.and_then(Value::as_str).map(instant);
        self.record_heartbeat(&id, heartbeat, started_at);
    }

    fn record_heartbeat(&mut self, id: &str, heartbeat: Value, started_at: Option<String>) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else {
            let host = self.new_host(heartbeat, started_at);
            self.hosts.insert(id.to_owned(), host);
            self.on_host_recovered(id);
            return;
        };
        let has_restarted =
            started_at.is_some() && host.started_at.is_some() && host.started_at != started_at;
        let has_returned = host.lost;
        // An earlier process may have declared the host lost.
        let is_first = host.heartbeats == 0;
        if is_first {
            host.first_heartbeat_at = now;
        }
        host.heartbeats += 1;
        host.last_seen_at = now;
        host.last_heartbeat_at = now;
        host.heartbeat_since_connect = true;
        host.no_responders = None;
        host.in_mass_loss = false;
        host.started_at = started_at;
        if self.options.mutant != Some(Mutant::IgnoresLaterHeartbeats) {
            host.heartbeat = heartbeat;
        }
        if has_returned && self.options.mutant != Some(Mutant::NeverReadmitsLostHosts) {
            host.lost = false;
            self.on_host_recovered(id);
        } else if is_first {
            self.on_host_recovered(id);
        }
        if has_restarted && !self.is(Mutant::IgnoresStartedAt) {
            self.on_host_restarted(id);
        }
    }

    fn new_host(&self, heartbeat: Value, started_at: Option<String>) -> Host {
        Host {
            heartbeat,
            started_at,
            last_seen_at: self.now,
            last_heartbeat_at: self.now,
            heartbeat_since_connect: true,
            no_responders: None,
            in_mass_loss: false,
            lost: false,
            busy_until: None,
            starts_in_flight: 0,
            next_probe_at: self.now + durations::PROBE_INTERVAL,
            probe_in_flight: false,
            first_heartbeat_at: self.now,
            heartbeats: 1,
        }
    }

    /// Returns a host that an earlier process has used and that has sent no heartbeat yet.
    pub(super) fn persisted_host(&self) -> Host {
        Host {
            heartbeat_since_connect: false,
            heartbeats: 0,
            ..self.new_host(json!({}), None)
        }
    }

    /// Whether workloads can be assigned to a host.
    pub(super) fn is_usable(&self, host: &Host) -> bool {
        let is_registered = match self.options.mutant {
            // A second heartbeat may follow at once, so this mutant waits for many.
            Some(Mutant::RegistersLate) => host.heartbeats > 12,
            Some(Mutant::RequiresHeartbeatReply) => {
                host.heartbeats > 0 && host.heartbeat.get("answered").is_some()
            }
            _ if self.has_variant(Variant::SlowWithinDeadlines) => {
                host.heartbeats > 0
                    && self.now >= host.first_heartbeat_at + durations::SLOW_REGISTRATION
            }
            _ => host.heartbeats > 0,
        };
        let is_reachable =
            host.no_responders.is_none() || self.is(Mutant::RetriesHostWithoutResponders);
        let is_alive = !host.lost && is_reachable;
        is_registered && (is_alive || self.is(Mutant::PlacesOnLostHosts))
    }

    /// Sends due probes and declares hosts lost.
    pub(super) async fn check_fleet(&mut self) {
        if !self.connected && !self.is(Mutant::OwnOutageMeansLost) {
            return;
        }
        let mut lost = Vec::new();
        let mut probes = Vec::new();
        if self.is_mass_loss() {
            self.mass_loss_at = Some(self.now);
        }
        let in_mass_loss = self
            .mass_loss_at
            .is_some_and(|at| self.now < at + durations::MASS_LOSS_FOR);
        for host in self.hosts.values_mut() {
            host.in_mass_loss |= in_mass_loss && host.no_responders.is_some();
        }
        for (id, host) in &self.hosts {
            if host.lost || id == MALFORMED_MARK {
                continue;
            }
            if self.is_lost(host) {
                lost.push(id.clone());
            } else if !host.probe_in_flight && self.now >= host.next_probe_at && self.connected {
                probes.push(id.clone());
            }
        }
        for id in lost {
            self.declare_lost(&id);
        }
        for id in probes {
            let interval = self.probe_interval(&id);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.probe_in_flight = true;
                host.next_probe_at = self.now + interval;
            }
            let command = match self.options.mutant {
                Some(Mutant::ProbesWithHeartbeatRequests) => "heartbeat",
                Some(Mutant::SendsUnknownCommand) => "workload.list",
                _ => "workload.status",
            };
            let payload = json!({ "workloadId": format!("probe-{}", self.request_count) });
            let payload = payload.to_string();
            self.send(&id, command, payload, RequestKind::Probe).await;
        }
    }

    fn probe_interval(&self, id: &str) -> Duration {
        let host = self.hosts.get(id);
        if host.is_some_and(|host| host.no_responders.is_some()) {
            durations::NO_RESPONDERS_PROBE_INTERVAL
        } else if self.has_variant(Variant::InfrequentProbes) {
            durations::PROBE_INTERVAL * 2
        } else {
            durations::PROBE_INTERVAL
        }
    }

    fn settling_period(&self) -> Duration {
        if self.has_variant(Variant::SlowWithinDeadlines) {
            durations::SLOW_SETTLING_PERIOD
        } else {
            durations::SETTLING_PERIOD
        }
    }

    /// Makes the probes of all hosts due, to distinguish a mass loss from the loss of one host.
    fn probe_all(&mut self) {
        if self.now < self.all_probed_at + durations::PROBE_ALL_INTERVAL {
            return;
        }
        self.all_probed_at = self.now;
        for host in self.hosts.values_mut().filter(|host| !host.lost) {
            host.next_probe_at = host.next_probe_at.min(self.now);
        }
    }

    /// Whether so many hosts have no responders that the broker may be the cause.
    fn is_mass_loss(&self) -> bool {
        let alive = self.hosts.values().filter(|host| !host.lost).count();
        let no_responders = self
            .hosts
            .values()
            .filter(|host| !host.lost && host.no_responders.is_some())
            .count();
        no_responders >= MASS_LOSS_THRESHOLD && no_responders * 2 >= alive
    }

    fn is_lost(&self, host: &Host) -> bool {
        let silent = self.now.saturating_duration_since(host.last_seen_at);
        if self.is(Mutant::OwnOutageMeansLost) && !self.connected {
            return silent > Duration::from_secs(2);
        }
        let without_heartbeat = self.now.saturating_duration_since(host.last_heartbeat_at);
        if self.is(Mutant::MissedHeartbeatsMeanLost)
            && without_heartbeat > durations::LOST_AFTER / 2
        {
            return true;
        }
        if let Some((since, count)) = host.no_responders {
            let no_responders_for = self.now.saturating_duration_since(since);
            if self.is(Mutant::OneNoRespondersMeansLost) {
                return true;
            }
            // After a reconnect, a no-responders reply proves nothing during the settling period.
            let is_unsettled = !host.heartbeat_since_connect
                && self.now < self.connected_at + self.settling_period()
                && !self.is(Mutant::NoSettlingPeriod);
            // A host remains part of the mass loss after others have returned, because the hosts
            // need not return at the same time.
            let is_mass_loss = host.in_mass_loss
                && !self.is(Mutant::IgnoresMassLoss)
                && no_responders_for < self.settling_period();
            if is_mass_loss || is_unsettled {
                return false;
            }
            let is_confirmed = count >= 3 && no_responders_for >= durations::NO_RESPONDERS_FOR;
            let is_ignored = self.is(Mutant::IgnoresNoResponders)
                || (self.is(Mutant::NeverLostAfterOutage) && !host.heartbeat_since_connect);
            if is_confirmed && !is_ignored {
                return true;
            }
        }
        if self.is(Mutant::IgnoresSilence) || self.is(Mutant::NeverLostAfterOutage) {
            return false;
        }
        let is_busy = host.busy_until.is_some_and(|until| self.now < until)
            && !self.is(Mutant::BusyMeansLost);
        let settling_period = if host.heartbeat_since_connect || self.is(Mutant::NoSettlingPeriod) {
            durations::LOST_AFTER
        } else {
            self.settling_period()
        };
        let is_settled = self.now >= self.connected_at + settling_period;
        let limit = match self.options.mutant {
            Some(Mutant::IgnoresNoResponders) => durations::LOST_AFTER * 4,
            _ => durations::LOST_AFTER,
        };
        silent > limit && is_settled && !is_busy
    }

    /// Declares all hosts lost, for `Mutant::OutageMeansLost`.
    pub(super) fn declare_all_lost(&mut self) {
        let all: Vec<String> = self.hosts.keys().cloned().collect();
        all.iter().for_each(|id| self.declare_lost(id));
    }

    /// Declares a host lost: its replicas wait for another host.
    fn declare_lost(&mut self, id: &str) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.lost = true;
        let last_seen_at = host.last_seen_at;
        if self.is(Mutant::DeletesObjectsOfLostHosts) {
            self.delete_objects_on(id);
        }
        for index in 0..self.persisted.replicas.len() {
            let Some(replica) = self.persisted.replicas.get_mut(index) else {
                continue;
            };
            if replica.host.as_deref() != Some(id) || replica.phase == Phase::Completed {
                continue;
            }
            if self.options.mutant == Some(Mutant::NeverReplaces) {
                continue;
            }
            let stop = pending_stop_of(replica, self.now).map(|stop| PendingStop {
                on_lost_host: true,
                ..stop
            });
            let owner = replica.owner.clone();
            replica.reset("its host is lost", self.now);
            let needs_fence = self.is_recreate(&owner) && !self.is(Mutant::RecreateWithoutFence);
            if let (true, Some(replica)) = (needs_fence, self.persisted.replicas.get_mut(index)) {
                replica.not_before = last_seen_at + durations::FENCE;
            }
            let forgets = self.is(Mutant::ForgetsWorkloadsOfLostHosts);
            self.persisted
                .pending_stops
                .extend(stop.filter(|_| !forgets));
        }
        for stop in self
            .persisted
            .pending_stops
            .iter_mut()
            .filter(|stop| stop.host == id)
        {
            stop.on_lost_host = true;
            stop.request_in_flight = false;
        }
        self.dirty = true;
    }

    /// Makes the pending stops on a host due.
    fn on_host_recovered(&mut self, id: &str) {
        for stop in self
            .persisted
            .pending_stops
            .iter_mut()
            .filter(|stop| stop.host == id)
        {
            stop.on_lost_host = false;
            stop.not_before = self.now;
        }
    }

    /// Resets the replicas of a host whose process has restarted.
    fn on_host_restarted(&mut self, id: &str) {
        self.persisted.pending_stops.retain(|stop| stop.host != id);
        for replica in &mut self.persisted.replicas {
            if replica.host.as_deref() == Some(id) && replica.phase != Phase::Completed {
                replica.reset("its host has restarted", self.now);
            }
        }
        self.dirty = true;
    }

    /// Updates the liveness of a host after a request.
    pub(super) fn record_contact(&mut self, completed: &CompletedRequest) {
        let now = self.now;
        let ignores_replies = self.is(Mutant::OnlyHeartbeatsProveLife);
        let Some(host) = self.hosts.get_mut(&completed.host) else {
            return;
        };
        if matches!(completed.kind, RequestKind::Probe) {
            host.probe_in_flight = false;
        }
        match completed.outcome {
            Outcome::Reply(_) => {
                if !ignores_replies {
                    host.last_seen_at = now;
                }
                host.no_responders = None;
                host.in_mass_loss = false;
            }
            Outcome::NoResponders => {
                let (since, count) = host.no_responders.unwrap_or((now, 0));
                host.no_responders = Some((since, count + 1));
                host.next_probe_at = host
                    .next_probe_at
                    .min(now + durations::NO_RESPONDERS_PROBE_INTERVAL);
                if count == 0 {
                    self.probe_all();
                }
            }
            Outcome::TimedOut | Outcome::NotSent | Outcome::TooLarge => {}
        }
    }
}

/// Returns a timestamp without trailing zeros of its seconds, so that equal instants are equal.
fn instant(timestamp: &str) -> String {
    let Some((seconds, rest)) = timestamp.split_once('.') else {
        return timestamp.to_owned();
    };
    let zone = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let fraction = rest.strip_suffix(zone).unwrap_or(rest);
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds}{zone}"),
        fraction => format!("{seconds}.{fraction}{zone}"),
    }
}
