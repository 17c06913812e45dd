//! The life of an incarnation: placed, started, asked for, stopped.

use std::time::{Duration, Instant};

use serde_json::json;

use super::reply::Status;
use super::state::{Ending, Phase, Replica, times};
use super::{About, Model, Mutant, Outcome, Response, Variant, placement, reply};
use crate::wire::response::State;

/// What remains to be done about the id of a replica, when it has one.
pub(super) fn ending_of(replica: &Replica, now: Instant, orphan: bool) -> Option<Ending> {
    Some(Ending {
        id: replica.id.clone()?,
        host: replica.host.clone()?,
        owner: replica.owner.clone(),
        replica: replica.number,
        orphan,
        not_before: now,
        asking: false,
        over: false,
    })
}

impl Model {
    /// Places who waits, and asks for who is under way or runs.
    pub(super) async fn drive_replicas(&mut self) {
        let mut starts = Vec::new();
        let mut statuses = Vec::new();
        for index in 0..self.kept.replicas.len() {
            let Some(replica) = self.kept.replicas.get(index) else {
                break;
            };
            match replica.phase {
                Phase::Waiting if self.now >= replica.not_before => {
                    if self.place(index) {
                        starts.push(index);
                    }
                }
                Phase::Waiting | Phase::Completed => {}
                _ if replica.asking || self.now < replica.asked_at + self.ask_every(replica) => {}
                _ => statuses.push(index),
            }
        }
        // It is written down before it is sent.
        self.save();
        for index in starts {
            self.send_start(index).await;
        }
        for index in statuses {
            self.send_status(index).await;
        }
    }

    fn ask_every(&self, replica: &Replica) -> Duration {
        match replica.phase {
            Phase::Sent => times::DOUBT,
            Phase::Running if self.is(Mutant::NeverPolls) => Duration::from_secs(3600),
            Phase::Running if self.is(Mutant::PollsWithoutPause) => Duration::from_millis(50),
            Phase::Running if self.varies(Variant::RareProbes) => times::POLL * 2,
            Phase::Running if self.varies(Variant::Unhurried) => times::POLL * 3,
            Phase::Running => times::POLL,
            Phase::Unknown | Phase::Starting | Phase::Stopping => Duration::from_millis(400),
            Phase::Waiting | Phase::Completed => Duration::MAX / 4,
        }
    }

    async fn send_start(&mut self, index: usize) {
        let Some(replica) = self.kept.replicas.get(index) else {
            return;
        };
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        let (number, request) = (replica.number, replica.request.clone());
        let until = self.now + times::START;
        if let Some(host) = self.hosts.get_mut(&host) {
            host.owes_until = Some(until);
        }
        if self.is(Mutant::StopOvertakesStart) {
            let payload = json!({ "workloadId": id }).to_string();
            self.send(
                &host,
                "workload.stop",
                payload,
                About::Stop(host.clone(), id.clone()),
            )
            .await;
        }
        self.send(&host, "workload.start", request, About::Start(number, id))
            .await;
    }

    async fn send_status(&mut self, index: usize) {
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        replica.asking = true;
        replica.asked_at = self.now;
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        let about = About::Status(replica.number, id.clone());
        let payload = json!({ "workloadId": id }).to_string();
        self.send(&host, "workload.status", payload, about).await;
    }

    /// Takes in what became of a call.
    pub(super) fn answered(&mut self, answer: Response) {
        self.now = Instant::now();
        self.probed(&answer);
        match answer.about.clone() {
            About::Start(number, id) => self.start_answered(number, &id, &answer),
            About::Status(number, id) => self.status_answered(number, &id, &answer),
            About::Stop(host, id) => self.stop_answered(&host, &id, &answer),
            About::Probe => {}
        }
    }

    fn read(&self, answer: &Response, id: &str) -> Option<Status> {
        match &answer.outcome {
            Outcome::Reply(payload) => reply::status(payload, id, self.options.mutant),
            _ => None,
        }
    }

    fn start_answered(&mut self, number: u64, id: &str, answer: &Response) {
        let owes = !matches!(answer.outcome, Outcome::Silence);
        if let (true, Some(host)) = (owes, self.hosts.get_mut(&answer.host)) {
            host.owes_until = None;
        }
        let status = self.read(answer, id);
        let believes = self.is(Mutant::RetryErrorIsFailure);
        let sticks = self.is(Mutant::SticksToTheFirstHost);
        let Some(index) = self.index_of(number, id) else {
            return;
        };
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        if matches!(answer.outcome, Outcome::Nobody | Outcome::Unsent) && replica.attempts <= 1 {
            // It was not delivered.
            let pause = if sticks {
                Duration::from_secs(20)
            } else {
                Duration::from_millis(50)
            };
            replica.wait("nobody listened", self.now + pause);
            return self.touched();
        }
        if matches!(answer.outcome, Outcome::TooLarge) {
            let later = self.now + Duration::from_secs(3600);
            replica.wait("its start is larger than the broker takes", later);
            return self.touched();
        }
        let repeated = replica.attempts > 1;
        match status {
            None => self.unanswered(index),
            Some(status) if status.state == State::Error && repeated && !believes => {
                replica.phase = Phase::Unknown;
            }
            Some(status) => self.learnt(index, status, true),
        }
    }

    fn unanswered(&mut self, index: usize) {
        let anew = self.is(Mutant::StartsAnewWithoutAsking);
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        if matches!(replica.phase, Phase::Sent) {
            replica.phase = Phase::Unknown;
            replica.asked_at = self.now - Duration::from_secs(2);
        }
        if anew {
            replica.wait("no answer", self.now);
            self.dirty = true;
        }
    }

    fn status_answered(&mut self, number: u64, id: &str, answer: &Response) {
        let status = self.read(answer, id);
        let Some(index) = self.index_of(number, id) else {
            return;
        };
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        replica.asking = false;
        let phase = replica.phase;
        match status {
            None if self.is(Mutant::LostStatusIsDeath) && phase == Phase::Running => {
                self.failed(index, "no status", true);
            }
            None => {}
            Some(Status {
                state: State::NotFound,
                ..
            }) if phase == Phase::Unknown => self.send_again(index),
            // Its start is still under way: only good news counts.
            Some(Status {
                state: State::NotFound | State::Error | State::Starting,
                ..
            }) if phase == Phase::Sent => {}
            Some(status) => self.learnt(index, status, false),
        }
    }

    /// The start never arrived: the same again, to the same host.
    fn send_again(&mut self, index: usize) {
        let elsewhere = self.is(Mutant::RetriesElsewhereUnderOneId);
        let other = self.kept.replicas.get(index).and_then(|replica| {
            let mut others = self.hosts.iter().filter(|(id, host)| {
                replica.host.as_ref() != Some(*id)
                    && self.is_usable(host)
                    && placement::fits(&replica.spec, id, &host.beat, None).is_ok()
            });
            others.next().map(|(id, _)| id.clone())
        });
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        replica.attempts += 1;
        replica.phase = Phase::Sent;
        replica.asked_at = self.now;
        if let (true, Some(other)) = (elsewhere, other) {
            replica.host = Some(other);
        }
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        self.resend
            .push((host, replica.number, id, replica.request.clone()));
        self.dirty = true;
    }

    /// What a host says of an id that is ours.
    fn learnt(&mut self, index: usize, status: Status, by_start: bool) {
        let now = self.now;
        let mutant = self.options.mutant;
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        let was = replica.phase;
        match status.state {
            State::Running => {
                replica.phase = Phase::Running;
                replica.message = "runs".to_owned();
                if was != Phase::Running {
                    replica.since = now;
                } else if now > replica.since + Duration::from_secs(10) {
                    replica.failures = 0;
                }
            }
            State::Starting if mutant == Some(Mutant::StartingIsFailure) => {
                self.failed(index, &status.message, true);
            }
            State::Starting => {
                replica.phase = Phase::Starting;
                replica.message = status.message;
            }
            State::Completed if mutant == Some(Mutant::RestartsCompleted) => {
                self.failed(index, "completed", true);
            }
            State::Completed => {
                replica.phase = Phase::Completed;
                let word = if mutant == Some(Mutant::CompletedReadsRunning) {
                    "runs"
                } else {
                    "completed"
                };
                replica.message = word.to_owned();
            }
            State::Stopping if mutant != Some(Mutant::ReadyForEver) => {
                replica.phase = Phase::Stopping
            }
            State::Error | State::NotFound => {
                if by_start && mutant == Some(Mutant::ErrorReplyIsPlaced) {
                    replica.phase = Phase::Running;
                } else if matches!(mutant, Some(Mutant::NeverReplaces | Mutant::ReadyForEver))
                    && was != Phase::Sent
                    && !by_start
                {
                    if mutant == Some(Mutant::NeverReplaces) {
                        replica.phase = Phase::Stopping;
                    }
                } else {
                    self.failed(index, &status.message, status.state == State::Error);
                }
            }
            _ => {}
        }
        self.dirty |= self
            .kept
            .replicas
            .get(index)
            .is_some_and(|replica| replica.phase != was);
    }

    /// The incarnation is over: what is left of it is stopped, and another begins after a pause.
    fn failed(&mut self, index: usize, why: &str, stop: bool) {
        let (now, mutant) = (self.now, self.options.mutant);
        let Some(replica) = self.kept.replicas.get_mut(index) else {
            return;
        };
        let ran = replica.phase == Phase::Running;
        let ending = ending_of(replica, now, false);
        replica.failures += 1;
        replica.refused_by = replica.host.clone();
        let pause = match (ran && replica.failures <= 1, mutant) {
            (true, _) | (_, Some(Mutant::RetriesWithoutPause)) => Duration::ZERO,
            (_, Some(Mutant::GivesUp)) => Duration::from_secs(3600),
            _ => (times::BACKOFF * 2_u32.pow(replica.failures.min(6) - 1)).min(times::BACKOFF_MAX),
        };
        let message = if mutant == Some(Mutant::HidesTheMessage) {
            "failed"
        } else {
            why
        };
        replica.wait(message, now + pause);
        let owner = replica.owner.clone();
        if stop && mutant != Some(Mutant::LeavesErrorsBehind) {
            self.kept.endings.extend(ending);
        }
        if mutant == Some(Mutant::FailsTogether) {
            let siblings = self
                .kept
                .replicas
                .iter_mut()
                .filter(|other| other.owner == owner && other.id.is_some());
            for sibling in siblings {
                self.kept.endings.extend(ending_of(sibling, now, false));
                sibling.wait("a sibling failed", now);
            }
        }
        self.touched();
    }

    fn index_of(&self, number: u64, id: &str) -> Option<usize> {
        let mut replicas = self.kept.replicas.iter();
        replicas.position(|replica| replica.number == number && replica.id.as_deref() == Some(id))
    }

    fn touched(&mut self) {
        self.dirty = true;
    }

    /// Stops what is to be stopped, until it is gone.
    pub(super) async fn drive_endings(&mut self) {
        for (host, number, id, request) in std::mem::take(&mut self.resend) {
            self.send(&host, "workload.start", request, About::Start(number, id))
                .await;
        }
        let before = self.kept.endings.len();
        self.kept.endings.retain(|ending| !ending.over);
        self.dirty |= self.kept.endings.len() != before;
        self.save();
        let now = self.now;
        let due =
            |ending: &&mut Ending| !ending.orphan && !ending.asking && now >= ending.not_before;
        let mut stops = Vec::new();
        for ending in self.kept.endings.iter_mut().filter(due) {
            ending.asking = true;
            stops.push((ending.host.clone(), ending.id.clone()));
        }
        for (host, id) in stops {
            let payload = json!({ "workloadId": id }).to_string();
            self.send(
                &host,
                "workload.stop",
                payload,
                About::Stop(host.clone(), id),
            )
            .await;
        }
    }

    fn stop_answered(&mut self, host: &str, id: &str, answer: &Response) {
        let status = self.read(answer, id);
        let (now, mutant) = (self.now, self.options.mutant);
        let (again, resend) = match self.varies(Variant::Unhurried) {
            true => (times::LATE_STOP, times::LATE_RESEND),
            false => (Duration::from_millis(250), Duration::from_millis(400)),
        };
        let mut endings = self.kept.endings.iter_mut();
        let Some(ending) = endings.find(|ending| ending.id == id && ending.host == host) else {
            return;
        };
        ending.asking = false;
        match status.map(|status| status.state) {
            Some(State::NotFound) if mutant == Some(Mutant::StopsForEver) => {
                ending.not_before = now + Duration::from_millis(300);
            }
            Some(State::NotFound) => ending.over = true,
            Some(_) if mutant == Some(Mutant::StoppingIsGone) => ending.over = true,
            None if mutant == Some(Mutant::StopsOnce) => ending.over = true,
            Some(_) => ending.not_before = now + again,
            None => ending.not_before = now + resend,
        }
    }
}
