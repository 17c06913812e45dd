//! What the simulated hosts have been told and what runs on them, from the lines that they print.

use std::collections::{BTreeMap, BTreeSet};

/// What has happened on a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It was told to start something.
    Start,
    /// It was told to stop something.
    Stop,
    /// This id runs.
    Ran(String),
    /// This id has ended.
    Ended(String),
}

impl What {
    /// Reads a line of `berth-conformance fleet`: the host's name, and then what happened.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (word, id) = (words.next()?, words.next()?.to_owned());
        match word {
            "workload.start" => Some(Self::Start),
            "workload.stop" => Some(Self::Stop),
            "runs" => Some(Self::Ran(id)),
            "ended" => Some(Self::Ended(id)),
            _ => None,
        }
    }
}

/// The state of all hosts, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    running: BTreeMap<usize, BTreeSet<String>>,
    starts: usize,
    stops: usize,
}

impl Tally {
    /// Takes note of what has happened on a host.
    pub(super) fn take(&mut self, host: usize, what: What) {
        let running = self.running.entry(host).or_default();
        match what {
            What::Start => self.starts += 1,
            What::Stop => self.stops += 1,
            What::Ran(id) => drop(running.insert(id)),
            What::Ended(id) => drop(running.remove(&id)),
        }
    }

    /// A host is gone, with all that ran on it.
    pub(super) fn lose(&mut self, host: usize) {
        self.running.remove(&host);
    }

    /// How many ids run.
    pub(super) fn running(&self) -> usize {
        self.running.values().map(BTreeSet::len).sum()
    }

    /// How many of them on this host.
    pub(super) fn running_on(&self, host: usize) -> usize {
        self.running.get(&host).map_or(0, BTreeSet::len)
    }

    /// How many starts and how many stops have been asked for.
    pub(super) fn commands(&self) -> (usize, usize) {
        (self.starts, self.stops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_fleet_become_what_runs_where() {
        let mut tally = Tally::default();
        for (host, line) in [
            (0, "steady-0         up as 7c1e"),
            (0, "steady-0         workload.start a"),
            (0, "steady-0         runs a"),
            (1, "steady-0         workload.start b"),
            (1, "steady-0         runs b"),
            (1, "steady-0         runs b"),
            (0, "steady-0         workload.stop a"),
            (0, "steady-0         ended a"),
            (0, "steady-0         gone"),
            (0, "broker at nats://127.0.0.1:4222"),
        ] {
            if let Some(what) = What::of_line(line) {
                tally.take(host, what);
            }
        }
        assert_eq!(
            (tally.running(), tally.running_on(0), tally.running_on(1)),
            (1, 0, 1)
        );
        assert_eq!(tally.commands(), (2, 1));
        tally.lose(1);
        assert_eq!(tally.running(), 0);
    }
}
