//! Runs the test pipeline: all steps in sequence, up to the first that fails.

use std::path::Path;
use std::time::{Duration, Instant};

mod conformance;
mod counters;
mod step;
mod steps;

pub use counters::Counters;

use self::step::{Context, Step, StepError};

/// Runs the steps, and prints `N passed, N failed` at the end. Each test of a crate counts as one;
/// a step without such tests counts as one. Returns whether all passed. With `only`, runs the
/// steps whose name contains it, and the steps that provide their programs.
#[must_use]
pub fn run(root: &Path, only: Option<&str>) -> bool {
    let mut context = Context {
        root: root.to_path_buf(),
        nats_server: None,
        kube_api: None,
    };
    let mut total = Counters::default();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut failed: Option<&str> = None;
    let mut skipped = 0;
    let selected = |step: &Step| {
        only.is_none_or(|only| steps::PROVIDERS.contains(&step.name) || step.name.contains(only))
    };
    for step in steps::STEPS.into_iter().filter(selected) {
        if failed.is_some() {
            skipped += 1;
            continue;
        }
        println!("== {}", step.name);
        let started = Instant::now();
        let counters = (step.run)(&mut context).unwrap_or_else(|error| {
            print_chain(&error);
            Counters::FAILED
        });
        times.push((step.name, started.elapsed()));
        total = total + counters;
        failed = (counters.failed > 0).then_some(step.name);
    }
    println!();
    for (name, time) in times {
        println!("{:>8.1} s  {name}", time.as_secs_f64());
    }
    if let Some(name) = failed {
        println!("error: step `{name}` failed; {skipped} further steps were skipped");
        println!("  run it alone with `cargo xtask test --only \"{name}\"`");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

fn print_chain(error: &StepError) {
    println!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        println!("  caused by: {error}");
        cause = error.source();
    }
}
