//! Measures how the reference scheduler reacts to faults: a real nats-server, simulated hosts in processes of their
//! own, and a directory of manifests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use self::stage::{Programs, Stage};
use super::BenchError;
use crate::{cargo, kube_api, nats_server};

mod burst;
mod process;
mod stage;
mod tally;

/// One row of the table of targets.
struct Measure {
    what: &'static str,
    target: &'static str,
    /// Takes minutes.
    slow: bool,
    run: fn(&Programs) -> Result<Outcome, BenchError>,
}

/// What came of it.
struct Outcome {
    measured: String,
    met: bool,
}

const MEASURES: [Measure; 8] = [
    Measure {
        what: "host process killed, until its replicas run elsewhere (2 hosts, 10 workloads)",
        target: "at most 2 s",
        slow: false,
        run: host_killed,
    },
    Measure {
        what: "host frozen (SIGSTOP), the same, default settings",
        target: "at most 40 s",
        slow: false,
        run: |programs| host_frozen(programs, &[], Duration::from_secs(40)),
    },
    Measure {
        what: "host frozen, the same, --host-lost-after 5s",
        target: "at most 8 s",
        slow: false,
        run: |programs| {
            host_frozen(
                programs,
                &["--host-lost-after", "5s"],
                Duration::from_secs(8),
            )
        },
    },
    Measure {
        what: "broker killed and restarted at once",
        target: "no start, no stop",
        slow: false,
        run: |programs| broker_away(programs, Duration::ZERO),
    },
    Measure {
        what: "broker away for 3 minutes",
        target: "no start, no stop",
        slow: true,
        run: |programs| broker_away(programs, Duration::from_secs(180)),
    },
    Measure {
        what: "one host of four frozen, 20 workloads created at once: all others run / all run",
        target: "at most 2 s / 70 s",
        slow: false,
        run: one_of_four,
    },
    Measure {
        what: "1,000 workloads (100 deployments of 10) created at once on 50 hosts through an API server, until all are Ready",
        target: "at most 2 x a bare client that creates as many one by one, 5 writes each, no conflicts, even to within 1",
        slow: false,
        run: burst::run,
    },
    Measure {
        what: "steady state: 1,000 hosts at 15 s heartbeats, 100 workloads",
        target: "at most 5% of one core, nothing written",
        slow: true,
        run: steady,
    },
];

/// Measures, prints, and says by the exit code whether every target is met. With `programs`, a folder, what is in
/// it is measured instead of a release build; with `slow`, what takes minutes, too; and of all that what has `only`
/// in its description.
///
/// # Errors
///
/// When something cannot be built or run, or nothing comes about that could be measured.
pub fn run(
    root: &Path,
    programs: Option<PathBuf>,
    slow: bool,
    only: &str,
) -> Result<ExitCode, BenchError> {
    let dir = match programs {
        Some(dir) => dir,
        None => build(root)?,
    };
    let programs = Programs {
        scheduler: dir.join("berth-scheduler"),
        conformance: dir.join("berth-conformance"),
        with_api_server: dir.join("examples/with_api_server"),
        burst: dir.join("examples/burst"),
        nats_server: nats_server::obtain(root)?,
        kube_api: kube_api::obtain(root)?,
    };
    let mut missed = 0;
    for measure in MEASURES
        .iter()
        .filter(|measure| measure.what.contains(only))
    {
        println!("{}", measure.what);
        if measure.slow && !slow {
            println!("    not run without --slow");
            continue;
        }
        let outcome = (measure.run)(&programs)?;
        let word = if outcome.met { "met" } else { "MISSED" };
        println!(
            "    {}; target: {}: {word}",
            outcome.measured, measure.target
        );
        missed += usize::from(!outcome.met);
    }
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn build(root: &Path) -> Result<PathBuf, BenchError> {
    println!("bench: building the scheduler and the simulated hosts in release");
    for what in BUILDS {
        let build = [&["build", "--release", "--locked"], what].concat();
        let status = cargo::command(root, &build)
            .status()
            .map_err(BenchError::Cargo)?;
        if !status.success() {
            return Err(BenchError::Build);
        }
    }
    let program = cargo::built(root, "release", "berth-scheduler");
    Ok(program.parent().unwrap_or(root).to_path_buf())
}

/// In two builds: in one, the examples would draw in what only the tests of the suite need.
const BUILDS: [&[&str]; 2] = [
    &["-p", "berth-scheduler", "-p", "berth-conformance"],
    &["-p", "berth-scheduler", "--examples"],
];

/// What comes about on a machine with nothing else to do within a second or two, or, on a scheduler's start, within
/// a heartbeat.
const PREPARATION: Duration = Duration::from_secs(90);

/// How many replicas run on the two hosts.
const REPLICAS: usize = 10;

/// Two hosts with ten replicas between them.
fn two_hosts<'a>(programs: &'a Programs, flags: &[&str]) -> Result<Stage<'a>, BenchError> {
    let mut stage = Stage::start(programs, flags)?;
    stage.add_host()?;
    stage.add_host()?;
    stage.deploy("ten", REPLICAS)?;
    stage.prepare("10 replicas on 2 hosts", PREPARATION, |tally| {
        tally.running() == REPLICAS && tally.running_on(0) > 0 && tally.running_on(1) > 0
    })?;
    Ok(stage)
}

fn host_killed(programs: &Programs) -> Result<Outcome, BenchError> {
    let mut stage = two_hosts(programs, &[])?;
    stage.kill_host(0);
    let took = stage.time_until(PREPARATION, |tally| tally.running_on(1) == REPLICAS);
    Ok(within(took, Duration::from_secs(2)))
}

fn host_frozen(
    programs: &Programs,
    flags: &[&str],
    target: Duration,
) -> Result<Outcome, BenchError> {
    let mut stage = two_hosts(programs, flags)?;
    stage.freeze_host(0)?;
    let took = stage.time_until(PREPARATION, |tally| tally.running_on(1) == REPLICAS);
    Ok(within(took, target))
}

/// How long hosts may take to come back, and what a scheduler might do wrong then to show.
const AFTERMATH: Duration = Duration::from_secs(45);

fn broker_away(programs: &Programs, away: Duration) -> Result<Outcome, BenchError> {
    let mut stage = two_hosts(programs, &[])?;
    let before = stage.tally().commands();
    stage.stop_broker();
    stage.time_until(away, |_| false);
    stage.start_broker()?;
    stage.time_until(AFTERMATH, |tally| tally.commands() != before);
    let more = |now: (usize, usize)| (now.0 - before.0, now.1 - before.1);
    let (starts, stops) = more(stage.tally().commands());
    // That nothing happened is worth something only if something could have.
    stage.deploy("after", 2)?;
    let is_alive = |tally: &tally::Tally| tally.running() == REPLICAS + 2;
    stage.prepare("a workload after the outage", PREPARATION, is_alive)?;
    Ok(Outcome {
        measured: format!("{starts} starts, {stops} stops"),
        met: (starts, stops) == (0, 0),
    })
}

/// How many are created at once.
const AT_ONCE: usize = 20;
/// How many of them go to the three hosts that are well, when they are spread evenly.
const ON_THE_WELL: usize = 15;

fn one_of_four(programs: &Programs) -> Result<Outcome, BenchError> {
    let mut stage = Stage::start(programs, &[])?;
    for _ in 0..4 {
        stage.add_host()?;
    }
    stage.deploy("known", 4)?;
    stage.prepare("a replica on each of 4 hosts", PREPARATION, |tally| {
        (0..4).all(|host| tally.running_on(host) == 1)
    })?;
    stage.freeze_host(3)?;
    let well = |tally: &tally::Tally| (0..3).map(|host| tally.running_on(host)).sum::<usize>();
    for number in 0..AT_ONCE {
        stage.deploy(&format!("one-{number}"), 1)?;
    }
    let others = stage.time_until(PREPARATION, |tally| well(tally) >= 3 + ON_THE_WELL);
    // With the replica that the frozen host had.
    let all = stage.time_until(PREPARATION, |tally| well(tally) >= 4 + AT_ONCE);
    let all = others.zip(all).map(|(first, rest)| first + rest);
    let met = others.is_some_and(|took| took <= Duration::from_secs(2))
        && all.is_some_and(|took| took <= Duration::from_secs(70));
    let measured = format!("{} / {}", seconds(others), seconds(all));
    Ok(Outcome { measured, met })
}

/// For so long nothing happens that has not ended, and then for so long nothing happens.
const STEADY: [Duration; 2] = [Duration::from_secs(45), Duration::from_secs(60)];
const STEADY_HOSTS: usize = 1000;
const STEADY_WORKLOADS: usize = 100;

fn steady(programs: &Programs) -> Result<Outcome, BenchError> {
    let mut stage = Stage::start(programs, &[])?;
    stage.add_hosts(STEADY_HOSTS)?;
    stage.deploy("steady", STEADY_WORKLOADS)?;
    stage.prepare("100 replicas on 1,000 hosts", PREPARATION, |tally| {
        tally.running() == STEADY_WORKLOADS
    })?;
    let [calm, measured] = STEADY;
    stage.time_until(calm, |_| false);
    let (began, before) = (SystemTime::now(), stage.scheduler_ticks());
    stage.time_until(measured, |_| false);
    let used = before
        .zip(stage.scheduler_ticks())
        .zip(process::ticks_per_second());
    let percent = used.map(|((before, after), per_second)| {
        100.0 * after.saturating_sub(before) as f64 / per_second as f64 / measured.as_secs_f64()
    });
    let written = stage.written_since(began);
    let share = percent.map_or_else(
        || "an unknown share".to_owned(),
        |share| format!("{share:.1}%"),
    );
    Ok(Outcome {
        measured: format!("{share} of one core, {written} files written"),
        met: percent.is_some_and(|share| share <= 5.0) && written == 0,
    })
}

fn within(took: Option<Duration>, target: Duration) -> Outcome {
    Outcome {
        measured: seconds(took),
        met: took.is_some_and(|took| took <= target),
    }
}

fn seconds(took: Option<Duration>) -> String {
    took.map_or_else(
        || format!("not within {} s", PREPARATION.as_secs()),
        |took| format!("{:.1} s", took.as_secs_f64()),
    )
}
