//! What the simulated hosts of one scenario saw and did, in order: the evidence of every check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::wire::response::Headers;

/// Entries kept of one scenario: the longest has some thousand.
const MAX_ENTRIES: usize = 200_000;

/// A command as a simulated host got it.
#[derive(Clone, Debug)]
pub struct ReceivedCommand {
    /// What stands behind the host's id in the subject.
    pub command: String,
    /// The `workloadId` of the payload, empty when there is none.
    pub id: String,
    /// The payload.
    pub payload: Bytes,
    /// The payload as JSON, when it is.
    pub json: Option<Value>,
    /// Where the answer goes.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A command arrived.
    ReceivedCommand(ReceivedCommand),
    /// The host answered on that inbox.
    Answered(String, Bytes),
    /// A workload began to run.
    Ran(String),
    /// A workload does not run any more.
    Ended(String),
    /// The host is connected.
    Up,
    /// The host is not connected any more.
    Down,
    /// The host does nothing any more and stays connected.
    Frozen,
    /// It goes on.
    Thawed,
}

/// One thing that happened on one host.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// The host's name in the scenario, which it keeps when it restarts.
    pub host: String,
    /// The id that it had then.
    pub host_id: String,
    /// What.
    pub what: EventKind,
}

impl Entry {
    /// The command, when it is one of that kind.
    pub fn command(&self, command: &str) -> Option<&ReceivedCommand> {
        match &self.what {
            EventKind::ReceivedCommand(came) if came.command == command => Some(came),
            _ => None,
        }
    }
}

/// The record. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    /// Writes an entry.
    pub fn write(&self, host: &str, host_id: &str, what: EventKind) {
        let mut entries = self.lock();
        if entries.len() < MAX_ENTRIES {
            entries.push(Entry {
                at: Instant::now(),
                host: host.to_owned(),
                host_id: host_id.to_owned(),
                what,
            });
        }
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Everything so far, which is forgotten with that.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lock())
    }

    /// Everything from a moment on.
    pub fn since(&self, from: Instant) -> Vec<Entry> {
        self.lock()
            .iter()
            .filter(|entry| entry.at >= from)
            .cloned()
            .collect()
    }

    /// The commands of one kind, with the host and the time, oldest first.
    pub fn commands(&self, command: &str) -> Vec<(Entry, ReceivedCommand)> {
        let entries = self.lock();
        let of_kind = entries
            .iter()
            .filter_map(|entry| Some((entry.clone(), entry.command(command)?.clone())));
        of_kind.collect()
    }

    /// The starts.
    pub fn starts(&self) -> Vec<(Entry, ReceivedCommand)> {
        self.commands("workload.start")
    }

    /// The stops.
    pub fn stops(&self) -> Vec<(Entry, ReceivedCommand)> {
        self.commands("workload.stop")
    }

    /// Starts and stops from a moment on, in words: for claims that there is none.
    pub fn orders_since(&self, from: Instant) -> Vec<String> {
        let shown = |entry: &Entry| match &entry.what {
            EventKind::ReceivedCommand(came)
                if matches!(&*came.command, "workload.start" | "workload.stop") =>
            {
                let after = entry.at.saturating_duration_since(from);
                Some(format!(
                    "{} of {} on {} after {:.1} s",
                    came.command,
                    came.id,
                    entry.host,
                    after.as_secs_f64()
                ))
            }
            _ => None,
        };
        self.since(from).iter().filter_map(shown).collect()
    }

    /// The ids of the workloads that were started with a payload that contains a text, such as an image.
    pub fn ids_of(&self, text: &str) -> BTreeSet<String> {
        let starts = self.starts().into_iter();
        starts
            .filter(|(_, came)| contains(&came.payload, text))
            .map(|(_, came)| came.id)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a payload contains a text.
pub fn contains(payload: &[u8], text: &str) -> bool {
    !text.is_empty()
        && payload
            .windows(text.len())
            .any(|window| window == text.as_bytes())
}

/// How many of the workloads ran at each change, on which hosts: `(when, how many)`. Pure.
pub fn running_over_time(
    entries: &[Entry],
    wanted: impl Fn(&str) -> bool,
) -> Vec<(Instant, usize)> {
    let mut running: BTreeMap<(&str, &str), ()> = BTreeMap::new();
    let mut curve = Vec::new();
    for entry in entries {
        match &entry.what {
            EventKind::Ran(id) if wanted(id) => {
                running.insert((&entry.host_id, id), ());
            }
            EventKind::Ended(id) if wanted(id) => {
                running.remove(&(&*entry.host_id, &**id));
            }
            _ => continue,
        }
        curve.push((entry.at, running.len()));
    }
    curve
}

/// The longest time between two entries, and from the last one to `until`. Pure.
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
    fn the_curve_counts_a_workload_on_two_hosts_twice() {
        let journal = Journal::default();
        journal.write("a", "1", EventKind::Ran("w".into()));
        journal.write("b", "2", EventKind::Ran("w".into()));
        journal.write("a", "1", EventKind::Ended("w".into()));
        journal.write("a", "1", EventKind::Ran("foreign".into()));
        let curve = running_over_time(&journal.entries(), |id| id == "w");
        let counts: Vec<usize> = curve.into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 1]);
    }
}
