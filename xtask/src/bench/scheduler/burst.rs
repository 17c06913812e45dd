//! A thousand workloads at once through a real API server, which the example `burst` brings about.

use std::process::Command;

use serde_json::Value;

use super::stage::Programs;
use super::{BenchError, Outcome};
use crate::kube_api;

/// How often: what the bare client needs differs by a third from one time to the next on a small machine.
const ROUNDS: usize = 5;

pub(super) fn run(programs: &Programs) -> Result<Outcome, BenchError> {
    let rounds: Result<Vec<Round>, BenchError> = (0..ROUNDS).map(|_| round(programs)).collect();
    Ok(outcome(rounds?))
}

fn round(programs: &Programs) -> Result<Round, BenchError> {
    let mut command = Command::new(&programs.with_api_server);
    command
        .arg(&programs.burst)
        .args([&programs.scheduler, &programs.conformance])
        .arg(&programs.nats_server)
        .env(kube_api::VARIABLE, &programs.kube_api);
    let output = command.output().map_err(|source| BenchError::Program {
        program: programs.with_api_server.clone(),
        source,
    })?;
    Round::of(&output.stdout).ok_or_else(|| BenchError::Measurement {
        what: "the burst",
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// What one round came to.
struct Round {
    ready_ms: f64,
    bare_ms: f64,
    together_ms: f64,
    writes: f64,
    conflicts: f64,
    uneven: f64,
}

impl Round {
    fn of(line: &[u8]) -> Option<Self> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let number = |name: &str| line.get(name)?.as_f64();
        Some(Self {
            ready_ms: number("ready_ms")?,
            bare_ms: number("one_by_one_ms")?,
            together_ms: number("together_ms")?,
            writes: number("writes_per_workload")?,
            conflicts: number("conflicts")?,
            uneven: number("most_on_a_host")? - number("least_on_a_host")?,
        })
    }

    fn ratio(&self) -> f64 {
        self.ready_ms / self.bare_ms
    }
}

/// The round whose ratio is the median counts for time, and the worst for all else.
fn outcome(mut rounds: Vec<Round>) -> Outcome {
    rounds.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let worst = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let (writes, conflicts, uneven) = (
        worst(|round| round.writes),
        worst(|round| round.conflicts),
        worst(|round| round.uneven),
    );
    let ratio_of = |round: Option<&Round>| round.map_or(f64::INFINITY, Round::ratio);
    let median = rounds.get(rounds.len() / 2);
    let ratio = ratio_of(median);
    let (least, most) = (ratio_of(rounds.first()), ratio_of(rounds.last()));
    let secs = |of: fn(&Round) -> f64| median.map_or(f64::INFINITY, of) / 1000.0;
    let (ready, bare) = (secs(|round| round.ready_ms), secs(|round| round.bare_ms));
    let hurried = ready / secs(|round| round.together_ms);
    Outcome {
        measured: format!(
            "{ready:.1} s, {ratio:.1} x ({least:.1} to {most:.1}) the bare client's {bare:.1} s ({hurried:.1} x one with \
             16 requests at once); {writes:.1} writes each, {conflicts} conflicts, hosts even to within {uneven}",
        ),
        met: ratio <= 2.0 && writes <= 5.0 && conflicts <= CONFLICTS_MAX && uneven <= 1.0,
    }
}

/// Conflicts that are none to speak of, among thousands of writes.
const CONFLICTS_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::{Round, outcome};

    fn line(ready: u32, writes: f64, conflicts: u32, most: u32) -> String {
        format!(
            "{{\"one_by_one_ms\":1000,\"together_ms\":500,\"ready_ms\":{ready},\"writes_per_workload\":{writes},\
             \"conflicts\":{conflicts},\"most_on_a_host\":{most},\"least_on_a_host\":20}}\n"
        )
    }

    fn met(lines: &[String]) -> bool {
        let rounds = lines.iter().filter_map(|line| Round::of(line.as_bytes()));
        outcome(rounds.collect()).met
    }

    #[test]
    fn every_part_of_the_target_counts() {
        assert!(met(&[line(2000, 5.0, 10, 21)]));
        assert!(!met(&[line(2001, 5.0, 10, 21)]));
        assert!(!met(&[line(2000, 5.1, 10, 21)]));
        assert!(!met(&[line(2000, 5.0, 11, 21)]));
        assert!(!met(&[line(2000, 5.0, 10, 22)]));
        assert!(!met(&[]));
        assert!(Round::of(b"no line").is_none());
    }

    #[test]
    fn the_median_counts_for_time_and_the_worst_for_the_rest() {
        let [fast, slow] = [line(1000, 2.0, 0, 20), line(9000, 2.0, 0, 20)];
        assert!(met(&[fast.clone(), slow.clone(), line(2000, 2.0, 0, 20)]));
        assert!(!met(&[fast.clone(), slow.clone(), slow]));
        assert!(!met(&[fast.clone(), fast, line(1000, 2.0, 0, 22)]));
    }
}
