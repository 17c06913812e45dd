//! What is counted, and its text for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::core::{Census, Outcome, WriteError};

/// Counters and gauges of one process. All methods may be called from anywhere.
#[derive(Debug, Default)]
pub struct Metrics {
    steps: AtomicU64,
    steps_ns: AtomicU64,
    step_max_ns: AtomicU64,
    connected: AtomicBool,
    acts: AtomicBool,
    terms: AtomicU64,
    // Few keys: verbs times outcomes. Held for a moment at a time.
    calls: Mutex<BTreeMap<(&'static str, &'static str), Timed>>,
    writes: Mutex<BTreeMap<(&'static str, &'static str), Timed>>,
    served: AtomicBool,
    census: Mutex<Census>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timed {
    count: u64,
    total: Duration,
}

impl Metrics {
    /// The core took in one event in this time.
    pub fn stepped(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.steps_ns.fetch_add(ns, Ordering::Relaxed);
        self.step_max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// A call ended.
    pub fn called(&self, verb: &'static str, outcome: &Outcome, took: Duration) {
        add(&self.calls, (verb, outcome_word(outcome)), took);
    }

    /// A write ended.
    pub fn wrote<T>(&self, verb: &'static str, result: &Result<T, WriteError>, took: Duration) {
        let word = match result {
            Ok(_) => "ok",
            Err(WriteError::NotFound) => "not_found",
            Err(WriteError::Exists) => "exists",
            Err(WriteError::Conflict) => "conflict",
            Err(WriteError::Refused(_)) => "refused",
            Err(WriteError::Unavailable(_)) => "unavailable",
        };
        add(&self.writes, (verb, word), took);
    }

    /// Whether there is a connection to the broker.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// This process acts from now on.
    pub fn term_began(&self) {
        self.terms.fetch_add(1, Ordering::Relaxed);
        self.acts.store(true, Ordering::Relaxed);
    }

    /// This process acts no longer, and counts nothing.
    pub fn term_ended(&self) {
        self.acts.store(false, Ordering::Relaxed);
        self.counted(Census::default());
    }

    /// Somebody can read them from now on.
    pub fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Whether anybody can read them, so that it is worth counting hosts and workloads.
    pub fn are_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// The hosts and workloads were counted.
    pub fn counted(&self, census: Census) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
    }

    /// What has one number: its name, kind, help and value.
    fn numbers(&self) -> [(&'static str, &'static str, &'static str, f64); 6] {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        let flag = |value: &AtomicBool| f64::from(u8::from(value.load(Ordering::Relaxed)));
        [
            (
                "steps_total",
                "counter",
                "Events taken in by the core.",
                load(&self.steps) as f64,
            ),
            (
                "step_seconds_total",
                "counter",
                "Time in the core.",
                seconds(load(&self.steps_ns)),
            ),
            (
                "step_seconds_max",
                "gauge",
                "The longest step.",
                seconds(load(&self.step_max_ns)),
            ),
            (
                "connected",
                "gauge",
                "Whether the broker is there.",
                flag(&self.connected),
            ),
            (
                "acts",
                "gauge",
                "Whether this process is the one that acts.",
                flag(&self.acts),
            ),
            (
                "terms_total",
                "counter",
                "How often this process began to act.",
                load(&self.terms) as f64,
            ),
        ]
    }

    /// Everything, in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in self.numbers() {
            head(&mut text, name, kind, help);
            line(&mut text, name, "", value);
        }
        timed(
            &mut text,
            "calls",
            "outcome",
            "Commands to hosts.",
            &self.calls,
        );
        timed(
            &mut text,
            "writes",
            "result",
            "Writes to the store.",
            &self.writes,
        );
        let census = self
            .census
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        states(
            &mut text,
            "hosts",
            "Hosts, as this process sees them.",
            &census.hosts,
        );
        states(
            &mut text,
            "workloads",
            "Workloads by what they do.",
            &census.workloads,
        );
        head(
            &mut text,
            "stops_open",
            "gauge",
            "Ids that are still to be stopped.",
        );
        line(&mut text, "stops_open", "", census.stops as f64);
        text
    }
}

type Table = Mutex<BTreeMap<(&'static str, &'static str), Timed>>;

fn add(table: &Table, key: (&'static str, &'static str), took: Duration) {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = table.entry(key).or_default();
    entry.count += 1;
    entry.total += took;
}

fn timed(text: &mut String, name: &str, label: &str, help: &str, table: &Table) {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (count, seconds) = (format!("{name}_total"), format!("{name}_seconds_total"));
    head(text, &count, "counter", help);
    for ((verb, word), entry) in &table {
        let labels = format!("{{verb=\"{verb}\",{label}=\"{word}\"}}");
        line(text, &count, &labels, entry.count as f64);
    }
    head(text, &seconds, "counter", "What they took together.");
    for ((verb, word), entry) in &table {
        let labels = format!("{{verb=\"{verb}\",{label}=\"{word}\"}}");
        line(text, &seconds, &labels, entry.total.as_secs_f64());
    }
}

fn states(text: &mut String, name: &str, help: &str, counts: &BTreeMap<&'static str, u64>) {
    head(text, name, "gauge", help);
    for (state, count) in counts {
        line(text, name, &format!("{{state=\"{state}\"}}"), *count as f64);
    }
}

// Writing to a string does not fail.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP berth_scheduler_{name} {help}");
    let _ = writeln!(text, "# TYPE berth_scheduler_{name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "berth_scheduler_{name}{labels} {value}");
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Status { code: Some(_), .. } => "refused",
        Outcome::Status { .. } => "answered",
        Outcome::NoResponders => "no_responders",
        Outcome::TimedOut => "timed_out",
        Outcome::Malformed(_) => "malformed",
        Outcome::Disconnected => "disconnected",
        Outcome::Unbuildable(_) => "unbuildable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_prometheus() {
        let metrics = Metrics::default();
        metrics.stepped(Duration::from_millis(2));
        metrics.called("start", &Outcome::NoResponders, Duration::from_millis(250));
        metrics.wrote("create", &Ok(()), Duration::from_millis(1));
        metrics.term_began();
        metrics.counted(Census {
            hosts: [("lost", 2)].into(),
            ..Census::default()
        });
        let text = metrics.text();
        for line in [
            "# TYPE berth_scheduler_steps_total counter",
            "berth_scheduler_steps_total 1",
            "berth_scheduler_step_seconds_max 0.002",
            "berth_scheduler_acts 1",
            "berth_scheduler_hosts{state=\"lost\"} 2",
            "berth_scheduler_stops_open 0",
            "berth_scheduler_calls_total{verb=\"start\",outcome=\"no_responders\"} 1",
            "berth_scheduler_calls_seconds_total{verb=\"start\",outcome=\"no_responders\"} 0.25",
            "berth_scheduler_writes_total{verb=\"create\",result=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
