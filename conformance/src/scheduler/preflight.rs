//! Proves that a scheduler is there before anything is judged: a canary is submitted and has to run.

use std::time::{Duration, Instant};

use super::environment::Environment;
use super::journal::Journal;
use super::manifest::Manifest;
use super::simulated_host::HostPlan;
use crate::check::outcome::chain;

/// How often the canary is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the doctor found: how long the scheduler took over the canary, or what is wrong.
///
/// # Errors
/// Text for people.
pub async fn examine(stage: &Environment, within: Duration) -> Result<Duration, String> {
    let tag = stage.next_tag();
    let mut plan = HostPlan::new("canary", &tag);
    plan.beat_every = stage.timings.beat_every();
    let host = stage.bring_up(plan, Journal::default()).await;
    let host = host.map_err(|cause| chain(&cause))?;
    let image = format!("registry.invalid/{tag}/canary:1");
    let manifest = Manifest::deployment(&format!("{tag}-canary"), &tag, &image, 1);
    let intake = &stage.live.intake;
    let applied = intake.apply(&manifest).await;
    applied.map_err(|cause| chain(&cause))?;
    let began = Instant::now();
    while host.running().is_empty() {
        if stage.live.has_died() {
            return Err(format!("the scheduler has ended{}", log(stage)));
        }
        if began.elapsed() > within {
            return Err(format!(
                "no scheduler appeared: a workload that was submitted was not started within {} s{}",
                within.as_secs(),
                log(stage)
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = began.elapsed();
    // A canary that stays is stopped by nobody.
    let _ = intake.delete(&manifest.key()).await;
    stage.retire(vec![host]);
    Ok(took)
}

fn log(stage: &Environment) -> String {
    let log = stage.live.log().unwrap_or_default();
    let end = crate::check::conclusion::log_end(&log);
    let lines: String = end.lines().map(|line| format!("\n    | {line}")).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("; the end of its log:{lines}")
    }
}
