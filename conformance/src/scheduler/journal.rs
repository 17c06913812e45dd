//! Chronological record of the events of the simulated hosts of one scenario: the evidence of its
//! claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::wire::response::Headers;

/// Maximum number of entries of one scenario; further entries are dropped. The longest scenario
/// records a few thousand.
const MAX_ENTRIES: usize = 200_000;

/// Command that a simulated host has received.
#[derive(Clone, Debug)]
pub struct ReceivedCommand {
    /// Name of the command: the part of the subject after the host's id.
    pub command: String,
    /// `workloadId` of the payload; empty if the payload has none.
    pub id: String,
    /// Payload as received.
    pub payload: Bytes,
    /// Payload as JSON, if it is valid.
    pub json: Option<Value>,
    /// Reply subject.
    pub reply: Option<String>,
    /// Headers of the request.
    pub headers: Headers,
}

/// Kind of an event on a host.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A command was received.
    ReceivedCommand(ReceivedCommand),
    /// The host sent a reply with this inbox and payload.
    Replied(String, Bytes),
    /// The workload with this id began to run.
    WorkloadRunning(String),
    /// The workload with this id no longer runs.
    WorkloadEnded(String),
    /// The host connected.
    Connected,
    /// The host disconnected.
    Disconnected,
    /// The host stopped all activity, with its connection open.
    Frozen,
    /// The host resumed its activity.
    Resumed,
}

/// Event on a host.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Time of the event.
    pub at: Instant,
    /// Name of the host in the scenario, which stays the same after a restart.
    pub host: String,
    /// ID of the host at the time of the event.
    pub host_id: String,
    /// Kind of the event.
    pub kind: EventKind,
}

impl Entry {
    /// Returns the received command if it is `command`.
    pub fn command(&self, command: &str) -> Option<&ReceivedCommand> {
        match &self.kind {
            EventKind::ReceivedCommand(received) if received.command == command => Some(received),
            _ => None,
        }
    }
}

/// Record of events. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    /// Records an event.
    pub fn record(&self, host: &str, host_id: &str, kind: EventKind) {
        let mut entries = self.lock();
        if entries.len() < MAX_ENTRIES {
            entries.push(Entry {
                at: Instant::now(),
                host: host.to_owned(),
                host_id: host_id.to_owned(),
                kind,
            });
        }
    }

    /// Returns all entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Removes and returns all entries.
    pub fn drain(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns the entries since `from`.
    pub fn since(&self, from: Instant) -> Vec<Entry> {
        self.lock()
            .iter()
            .filter(|entry| entry.at >= from)
            .cloned()
            .collect()
    }

    /// Returns the received commands of one kind with their entries, oldest first.
    pub fn commands(&self, command: &str) -> Vec<(Entry, ReceivedCommand)> {
        let entries = self.lock();
        let of_kind = entries
            .iter()
            .filter_map(|entry| Some((entry.clone(), entry.command(command)?.clone())));
        of_kind.collect()
    }

    /// Returns the received starts.
    pub fn starts(&self) -> Vec<(Entry, ReceivedCommand)> {
        self.commands("workload.start")
    }

    /// Returns the received stops.
    pub fn stops(&self) -> Vec<(Entry, ReceivedCommand)> {
        self.commands("workload.stop")
    }

    /// Returns descriptions of the starts and stops since `from`, oldest first.
    pub fn starts_and_stops_since(&self, from: Instant) -> Vec<String> {
        let describe = |entry: &Entry| match &entry.kind {
            EventKind::ReceivedCommand(received)
                if matches!(&*received.command, "workload.start" | "workload.stop") =>
            {
                let after = entry.at.saturating_duration_since(from);
                Some(format!(
                    "{} of {} on {} after {:.1} s",
                    received.command,
                    received.id,
                    entry.host,
                    after.as_secs_f64()
                ))
            }
            _ => None,
        };
        self.since(from).iter().filter_map(describe).collect()
    }

    /// Returns the ids of the starts whose payload contains `text`, such as an image.
    pub fn started_ids_containing(&self, text: &str) -> BTreeSet<String> {
        let starts = self.starts().into_iter();
        starts
            .filter(|(_, start)| contains(&start.payload, text))
            .map(|(_, start)| start.id)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a payload contains `text`. Pure.
pub fn contains(payload: &[u8], text: &str) -> bool {
    !text.is_empty()
        && payload
            .windows(text.len())
            .any(|window| window == text.as_bytes())
}

/// Returns the number of running workloads whose id `is_counted` selects, after each change of the
/// number, with the time of the change. A workload that runs on two hosts counts twice. Pure.
pub fn running_counts_over_time(
    entries: &[Entry],
    is_counted: impl Fn(&str) -> bool,
) -> Vec<(Instant, usize)> {
    let mut running: BTreeMap<(&str, &str), ()> = BTreeMap::new();
    let mut counts = Vec::new();
    for entry in entries {
        match &entry.kind {
            EventKind::WorkloadRunning(id) if is_counted(id) => {
                running.insert((&entry.host_id, id), ());
            }
            EventKind::WorkloadEnded(id) if is_counted(id) => {
                running.remove(&(&*entry.host_id, &**id));
            }
            _ => continue,
        }
        counts.push((entry.at, running.len()));
    }
    counts
}

/// Returns the longest interval between two consecutive times, where `until` follows the last time.
/// Pure.
pub fn longest_gap(times: &[Instant], until: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    for pair in times.windows(2) {
        if let [one, next] = pair {
            longest = longest.max(next.saturating_duration_since(*one));
        }
    }
    match times.last() {
        Some(last) => longest.max(until.saturating_duration_since(*last)),
        None => longest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_workload_on_two_hosts_twice() {
        let journal = Journal::default();
        journal.record("a", "1", EventKind::WorkloadRunning("w".into()));
        journal.record("b", "2", EventKind::WorkloadRunning("w".into()));
        journal.record("a", "1", EventKind::WorkloadEnded("w".into()));
        journal.record("a", "1", EventKind::WorkloadRunning("foreign".into()));
        let counts = running_counts_over_time(&journal.entries(), |id| id == "w");
        let counts: Vec<usize> = counts.into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 1]);
    }
}
