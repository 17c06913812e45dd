//! A thousand workloads at once through a real API server, which the example `burst` brings about.

use std::process::Command;

use serde_json::Value;

use super::stage::Programs;
use super::{BenchError, Outcome};
use crate::kube_api;

pub(super) fn run(programs: &Programs) -> Result<Outcome, BenchError> {
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
    outcome(&output.stdout).ok_or_else(|| BenchError::Measurement {
        what: "the burst",
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn outcome(line: &[u8]) -> Option<Outcome> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let number = |name: &str| line.get(name)?.as_f64();
    let (bare_ms, ready_ms) = (number("one_by_one_ms")?, number("ready_ms")?);
    let hurried = ready_ms / number("together_ms")?;
    let (writes, conflicts) = (number("writes_per_workload")?, number("conflicts")?);
    let (most, least) = (number("most_on_a_host")?, number("least_on_a_host")?);
    let ratio = ready_ms / bare_ms;
    Some(Outcome {
        measured: format!(
            "{:.1} s, {ratio:.1} x the bare client's {:.1} s ({hurried:.1} x one with 16 requests at once); \
             {writes:.1} writes each, {conflicts} conflicts, {least} to {most} on a host",
            ready_ms / 1000.0,
            bare_ms / 1000.0,
        ),
        met: ratio <= 2.0 && writes <= 5.0 && conflicts <= CONFLICTS_MAX && most - least <= 1.0,
    })
}

/// Conflicts that are none to speak of, among thousands of writes.
const CONFLICTS_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::outcome;

    #[test]
    fn every_part_of_the_target_counts() {
        let line = |ready: u32, writes: f64, conflicts: u32, most: u32| {
            format!(
                "{{\"one_by_one_ms\":1000,\"together_ms\":500,\"ready_ms\":{ready},\"writes_per_workload\":{writes},\
                 \"conflicts\":{conflicts},\"most_on_a_host\":{most},\"least_on_a_host\":20}}\n"
            )
        };
        let met = |line: String| outcome(line.as_bytes()).map(|outcome| outcome.met);
        assert_eq!(met(line(2000, 5.0, 10, 21)), Some(true));
        assert_eq!(met(line(2001, 5.0, 10, 21)), Some(false));
        assert_eq!(met(line(2000, 5.1, 10, 21)), Some(false));
        assert_eq!(met(line(2000, 5.0, 11, 21)), Some(false));
        assert_eq!(met(line(2000, 5.0, 10, 22)), Some(false));
        assert_eq!(met("no line".to_owned()), None);
    }
}
