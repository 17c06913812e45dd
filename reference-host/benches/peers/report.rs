//! Formats the measurements.

use std::fmt;
use std::time::Duration;

use crate::load::Measurements;

/// One run of one server.
#[derive(Clone)]
pub struct Run {
    requests_per_s: f64,
    p50_us: u32,
    p99_us: u32,
    cpu_us_per_request: Option<f64>,
}

impl Run {
    pub fn new(mut measurements: Measurements, cpu_time: Option<Duration>) -> Self {
        measurements.latencies_us.sort_unstable();
        let count = measurements.latencies_us.len();
        let at = |percent: usize| {
            let index = (count * percent / 100).min(count.saturating_sub(1));
            measurements
                .latencies_us
                .get(index)
                .copied()
                .unwrap_or_default()
        };
        let requests = (count as f64).max(1.0);
        Self {
            requests_per_s: count as f64 / measurements.elapsed.as_secs_f64(),
            p50_us: at(50),
            p99_us: at(99),
            cpu_us_per_request: cpu_time.map(|time| time.as_secs_f64() * 1e6 / requests),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests_per_s,
            p50_us,
            p99_us,
            ..
        } = self;
        write!(
            f,
            "{requests_per_s:>8.0} requests/s   p50 {p50_us:>6} µs   p99 {p99_us:>6} µs"
        )?;
        match self.cpu_us_per_request {
            Some(cpu_us) => write!(f, "   {cpu_us:>6.1} µs of processor time per request"),
            None => Ok(()),
        }
    }
}

/// Returns the header: the parameters of the measurement.
pub fn header(connections: u32, rounds: u32, duration: Duration, warm_up: Duration) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let profile = if cfg!(debug_assertions) {
        ", DEBUG BUILD"
    } else {
        ""
    };
    format!(
        "hello over HTTP/1.1 on loopback: {connections} keep-alive connections, \
         {rounds} rounds of {duration:?} each after {warm_up:?} of warm-up, \
         {cores} cores shared by server and load{profile}"
    )
}

/// Returns the summary: the median and spread of each server, and of the ratio of the server at the
/// end of the list to the first one, its peer.
pub fn summary(servers: &[(&str, Vec<Run>)]) -> String {
    let mut lines = Vec::new();
    for (name, runs) in servers {
        let throughput = spread(runs.iter().map(|run| run.requests_per_s));
        lines.push(format!("{name:<22} {throughput:.0} requests/s"));
    }
    if let [(peer, peer_runs), .., (name, runs)] = servers {
        let pairs = || runs.iter().zip(peer_runs);
        let ratio = spread(pairs().map(|(run, peer)| run.requests_per_s / peer.requests_per_s));
        lines.push(format!(
            "ratio {name} / {peer}: {ratio:.2} of the throughput (target: at least 0.80)"
        ));
        let cpu = pairs().filter_map(|(run, peer)| {
            Some(run.cpu_us_per_request? / peer.cpu_us_per_request.filter(|it| *it > 0.0)?)
        });
        let cpu: Vec<f64> = cpu.collect();
        if !cpu.is_empty() {
            lines.push(format!(
                "{:>width$} {:.2} of the processor time per request",
                "",
                spread(cpu),
                width = name.len() + peer.len() + 9
            ));
        }
    }
    lines.join("\n")
}

/// A median with minimum and maximum.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (half, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
    let median = match sorted.len() % 2 {
        1 => at(half),
        _ => f64::midpoint(at(half.saturating_sub(1)), at(half)),
    };
    Spread {
        median,
        min: at(0),
        max: at(last),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}
