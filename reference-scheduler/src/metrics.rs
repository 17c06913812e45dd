//! Metrics of the process, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::core::{Outcome, Stats, StoreError};
use crate::store::Problems;

/// Counters and gauges of one process. All methods may be called concurrently.
#[derive(Debug, Default)]
pub struct Metrics {
    steps: AtomicU64,
    steps_ns: AtomicU64,
    step_max_ns: AtomicU64,
    connected: AtomicBool,
    is_leader: AtomicBool,
    terms: AtomicU64,
    // The maps have few keys (verbs times outcomes) and are locked only briefly.
    calls: Durations,
    writes: Durations,
    served: AtomicBool,
    stats: Mutex<Stats>,
    problems: OnceLock<watch::Receiver<Problems>>,
}

/// Number and total duration of operations, by verb and outcome.
type Durations = Mutex<BTreeMap<(&'static str, &'static str), Entry>>;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    count: u64,
    total: Duration,
}

impl Metrics {
    /// Records that the core processed one event.
    pub fn record_step(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.steps_ns.fetch_add(ns, Ordering::Relaxed);
        self.step_max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// Records the end of a call to a host.
    pub fn record_call(&self, verb: &'static str, outcome: &Outcome, duration: Duration) {
        record(&self.calls, (verb, outcome_label(outcome)), duration);
    }

    /// Records the end of a write to the store.
    pub fn record_write<T>(
        &self,
        verb: &'static str,
        result: &Result<T, StoreError>,
        duration: Duration,
    ) {
        let label = match result {
            Ok(_) => "ok",
            Err(StoreError::NotFound) => "not_found",
            Err(StoreError::Exists) => "exists",
            Err(StoreError::Conflict) => "conflict",
            Err(StoreError::Refused(_)) => "refused",
            Err(StoreError::Unavailable(_)) => "unavailable",
        };
        record(&self.writes, (verb, label), duration);
    }

    /// Sets whether the process is connected to NATS.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Records that this process became the leader.
    pub fn start_term(&self) {
        self.terms.fetch_add(1, Ordering::Relaxed);
        self.is_leader.store(true, Ordering::Relaxed);
    }

    /// Records that this process is no longer the leader, and clears the counts of hosts and
    /// workloads.
    pub fn end_term(&self) {
        self.is_leader.store(false, Ordering::Relaxed);
        self.set_stats(Stats::default());
    }

    /// Counts the problems of the store.
    pub fn watch_problems(&self, problems: watch::Receiver<Problems>) {
        // The loop runs once in each process.
        let _ = self.problems.set(problems);
    }

    /// Records that an endpoint serves the metrics.
    pub fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Returns whether an endpoint serves the metrics; otherwise hosts and workloads need not be
    /// counted.
    pub fn are_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Sets the counts of hosts and workloads.
    pub fn set_stats(&self, stats: Stats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// Returns the name, type, help and value of each metric without labels.
    fn scalars(&self) -> [(&'static str, &'static str, &'static str, f64); 7] {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        let flag = |value: &AtomicBool| f64::from(u8::from(value.load(Ordering::Relaxed)));
        let problems = self.problems.get();
        let problems = problems.map_or(0, |problems| problems.borrow().list.len());
        [
            (
                "store_problems",
                "gauge",
                "Number of namespaces, directories, files and objects that cannot be read or written.",
                problems as f64,
            ),
            (
                "steps_total",
                "counter",
                "Number of events processed by the core.",
                load(&self.steps) as f64,
            ),
            (
                "step_seconds_total",
                "counter",
                "Time spent processing events in the core, in seconds.",
                seconds(load(&self.steps_ns)),
            ),
            (
                "step_max_seconds",
                "gauge",
                "Longest time spent processing one event, in seconds.",
                seconds(load(&self.step_max_ns)),
            ),
            (
                "bus_connected",
                "gauge",
                "Whether this process is connected to NATS.",
                flag(&self.connected),
            ),
            (
                "is_leader",
                "gauge",
                "Whether this process is the leader.",
                flag(&self.is_leader),
            ),
            (
                "leader_terms_total",
                "counter",
                "Number of times this process became the leader.",
                load(&self.terms) as f64,
            ),
        ]
    }

    /// Returns all metrics in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in self.scalars() {
            write_head(&mut text, name, kind, help);
            write_sample(&mut text, name, "", value);
        }
        write_durations(
            &mut text,
            ("host_calls_total", "Number of calls to hosts."),
            (
                "host_call_seconds_total",
                "Total duration of calls to hosts, in seconds.",
            ),
            "outcome",
            &self.calls,
        );
        write_durations(
            &mut text,
            ("store_writes_total", "Number of writes to the store."),
            (
                "store_write_seconds_total",
                "Total duration of writes to the store, in seconds.",
            ),
            "result",
            &self.writes,
        );
        let stats = self
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        write_states(
            &mut text,
            "hosts",
            "Number of hosts by health.",
            &stats.hosts,
        );
        write_states(
            &mut text,
            "workloads",
            "Number of workloads by state.",
            &stats.workloads,
        );
        write_head(
            &mut text,
            "pending_stops",
            "gauge",
            "Number of workload ids that are still to be stopped.",
        );
        write_sample(&mut text, "pending_stops", "", stats.stops as f64);
        text
    }
}

fn record(durations: &Durations, key: (&'static str, &'static str), duration: Duration) {
    let mut durations = durations.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = durations.entry(key).or_default();
    entry.count += 1;
    entry.total += duration;
}

fn write_durations(
    text: &mut String,
    (count, count_help): (&str, &str),
    (seconds, seconds_help): (&str, &str),
    label: &str,
    durations: &Durations,
) {
    let entries = durations
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    write_head(text, count, "counter", count_help);
    for ((verb, outcome), entry) in &entries {
        let labels = format!("{{verb=\"{verb}\",{label}=\"{outcome}\"}}");
        write_sample(text, count, &labels, entry.count as f64);
    }
    write_head(text, seconds, "counter", seconds_help);
    for ((verb, outcome), entry) in &entries {
        let labels = format!("{{verb=\"{verb}\",{label}=\"{outcome}\"}}");
        write_sample(text, seconds, &labels, entry.total.as_secs_f64());
    }
}

fn write_states(text: &mut String, name: &str, help: &str, counts: &BTreeMap<&'static str, u64>) {
    write_head(text, name, "gauge", help);
    for (state, count) in counts {
        write_sample(text, name, &format!("{{state=\"{state}\"}}"), *count as f64);
    }
}

// Writing to a string does not fail.
fn write_head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP berth_scheduler_{name} {help}");
    let _ = writeln!(text, "# TYPE berth_scheduler_{name} {kind}");
}

fn write_sample(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "berth_scheduler_{name}{labels} {value}");
}

fn outcome_label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Status { code: Some(_), .. } => "refused",
        Outcome::Status { .. } | Outcome::Heartbeat(_) => "replied",
        Outcome::NoResponders => "no_responders",
        Outcome::TimedOut => "timed_out",
        Outcome::InvalidResponse(_) => "invalid_response",
        Outcome::Disconnected => "disconnected",
        Outcome::InvalidRequest(_) => "invalid_request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_prometheus_format() {
        let metrics = Metrics::default();
        metrics.record_step(Duration::from_millis(2));
        metrics.record_call("start", &Outcome::NoResponders, Duration::from_millis(250));
        metrics.record_write("create", &Ok(()), Duration::from_millis(1));
        metrics.start_term();
        metrics.set_stats(Stats {
            hosts: [("lost", 2)].into(),
            ..Stats::default()
        });
        let text = metrics.text();
        for line in [
            "# TYPE berth_scheduler_steps_total counter",
            "berth_scheduler_steps_total 1",
            "berth_scheduler_step_max_seconds 0.002",
            "berth_scheduler_is_leader 1",
            "berth_scheduler_store_problems 0",
            "berth_scheduler_hosts{state=\"lost\"} 2",
            "berth_scheduler_pending_stops 0",
            "berth_scheduler_host_calls_total{verb=\"start\",outcome=\"no_responders\"} 1",
            "berth_scheduler_host_call_seconds_total{verb=\"start\",outcome=\"no_responders\"} 0.25",
            "berth_scheduler_store_writes_total{verb=\"create\",result=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
