//! Preflight: proves that the scheduler works before the first check, with a canary workload that
//! has to run.

use std::time::{Duration, Instant};

use super::environment::Environment;
use super::journal::Journal;
use super::manifest::Manifest;
use super::simulated_host::HostConfig;
use crate::check::outcome::error_chain;
use crate::testbed::tap::FrameKind;
use crate::wire::response::shortened;

/// Interval at which the state of the canary is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of published messages in the reason of a failure.
const FRAMES: usize = 6;
/// Maximum length of a payload in that reason, in characters.
const PAYLOAD_CHARS: usize = 160;

/// Submits a canary workload and returns the time until it runs.
///
/// # Errors
/// The reason why the canary does not run within `within`.
pub async fn run_canary(environment: &Environment, within: Duration) -> Result<Duration, String> {
    let name_prefix = environment.new_name_prefix();
    let mut config = HostConfig::new("canary", &name_prefix);
    config.heartbeat_interval = environment.timings.heartbeat_interval();
    let host = environment.start_host(config, Journal::default()).await;
    let host = host.map_err(|error| error_chain(&error))?;
    let image = format!("registry.invalid/{name_prefix}/canary:1");
    let manifest = Manifest::deployment(&format!("{name_prefix}-canary"), &name_prefix, &image, 1);
    let intake = &environment.scheduler.intake;
    let applied = intake.apply(&manifest).await;
    applied.map_err(|error| error_chain(&error))?;
    let submitted_at = Instant::now();
    while host.running_ids().is_empty() {
        if environment.scheduler.has_exited() {
            return Err(format!("the scheduler has exited{}", log(environment)));
        }
        if submitted_at.elapsed() > within {
            return Err(format!(
                "the scheduler did not start a submitted workload within {} s on host {}{}{}",
                within.as_secs(),
                host.id(),
                published(environment),
                log(environment)
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let took = submitted_at.elapsed();
    // If the deletion fails, the canary keeps running, which does not affect the scenarios.
    let _ = intake.delete(&manifest.key()).await;
    environment.retire(vec![host]);
    Ok(took)
}

/// Describes the last messages that the scheduler has published, which show whether it sends
/// commands to another subject or in another encoding.
fn published(environment: &Environment) -> String {
    let frames = environment.scheduler.bus.tap().frames().into_iter();
    let publishes = frames.filter(|frame| frame.kind == FrameKind::Publish);
    let mut lines: Vec<String> = publishes
        .map(|frame| {
            let subject = frame.subject.as_deref().unwrap_or_default();
            let payload = shortened(&String::from_utf8_lossy(&frame.payload), PAYLOAD_CHARS);
            format!("\n    | {subject} {payload}")
        })
        .collect();
    let skipped = lines.len().saturating_sub(FRAMES);
    lines.drain(..skipped);
    match &*lines {
        [] => "; it published nothing".to_owned(),
        lines => format!("; the last messages that it published:{}", lines.concat()),
    }
}

fn log(environment: &Environment) -> String {
    let log = environment.scheduler.log().unwrap_or_default();
    let end = crate::check::conclusion::log_tail(&log);
    let lines: String = end.lines().map(|line| format!("\n    | {line}")).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("; end of its log:{lines}")
    }
}
