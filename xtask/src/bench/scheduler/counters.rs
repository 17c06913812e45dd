//! Counters of the commands to simulated hosts and of the ids that run on them, parsed from their
//! output.

use std::collections::{BTreeMap, BTreeSet};

/// An event on a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HostEvent {
    /// The host received a start command.
    Start,
    /// The host received a stop command.
    Stop,
    /// The workload with this id runs.
    Running(String),
    /// The workload with this id ended.
    Ended(String),
}

impl HostEvent {
    /// Parses a line of `berth-conformance fleet`: the host's name and an event.
    pub(super) fn parse_line(line: &str) -> Option<Self> {
        let (_, event) = line.split_once(char::is_whitespace)?;
        match event.split_whitespace().collect::<Vec<_>>()[..] {
            ["workload.start", _] => Some(Self::Start),
            ["workload.stop", _] => Some(Self::Stop),
            ["workload", id, "running"] => Some(Self::Running(id.to_owned())),
            ["workload", id, "ended"] => Some(Self::Ended(id.to_owned())),
            _ => None,
        }
    }
}

/// Counters of all hosts, by host number.
#[derive(Debug, Default)]
pub(super) struct FleetCounters {
    running: BTreeMap<usize, BTreeSet<String>>,
    starts: usize,
    stops: usize,
}

impl FleetCounters {
    /// Applies an event on a host.
    pub(super) fn apply(&mut self, host: usize, event: HostEvent) {
        let running = self.running.entry(host).or_default();
        match event {
            HostEvent::Start => self.starts += 1,
            HostEvent::Stop => self.stops += 1,
            HostEvent::Running(id) => drop(running.insert(id)),
            HostEvent::Ended(id) => drop(running.remove(&id)),
        }
    }

    /// Removes a host and the ids that ran on it.
    pub(super) fn remove_host(&mut self, host: usize) {
        self.running.remove(&host);
    }

    /// Returns the number of running ids.
    pub(super) fn running(&self) -> usize {
        self.running.values().map(BTreeSet::len).sum()
    }

    /// Returns the number of running ids on this host.
    pub(super) fn running_on(&self, host: usize) -> usize {
        self.running.get(&host).map_or(0, BTreeSet::len)
    }

    /// Returns the numbers of start and stop commands.
    pub(super) fn commands(&self) -> (usize, usize) {
        (self.starts, self.stops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_commands_and_running_ids() {
        let mut counters = FleetCounters::default();
        for (host, line) in [
            (0, "steady-0         connected as 7c1e"),
            (0, "steady-0         workload.start a"),
            (0, "steady-0         workload a running"),
            (1, "steady-0         workload.start b"),
            (1, "steady-0         workload b running"),
            (1, "steady-0         workload b running"),
            (0, "steady-0         workload.stop a"),
            (0, "steady-0         workload a ended"),
            (0, "steady-0         disconnected"),
            (0, "broker at nats://127.0.0.1:4222"),
        ] {
            if let Some(event) = HostEvent::parse_line(line) {
                counters.apply(host, event);
            }
        }
        assert_eq!(
            (
                counters.running(),
                counters.running_on(0),
                counters.running_on(1)
            ),
            (1, 0, 1)
        );
        assert_eq!(counters.commands(), (2, 1));
        counters.remove_host(1);
        assert_eq!(counters.running(), 0);
    }
}
