//! Measures how the reference scheduler reacts to faults, with a real nats-server, simulated hosts
//! in separate processes, and a directory of manifests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use self::counters::FleetCounters;
use self::fixture::{Fixture, Programs};
use super::BenchError;
use crate::{cargo, kube_api, nats_server};

mod burst;
mod counters;
mod fixture;
mod process;

/// A measurement with its target.
struct Measurement {
    description: &'static str,
    target: &'static str,
    /// Whether it takes minutes.
    slow: bool,
    run: fn(&Programs) -> Result<Measured, BenchError>,
}

/// The result of a measurement.
struct Measured {
    value: String,
    is_met: bool,
}

const MEASUREMENTS: [Measurement; 8] = [
    Measurement {
        description: "host process killed, until its replicas run on the other host \
                      (2 hosts, 10 workloads)",
        target: "at most 2 s",
        slow: false,
        run: host_killed,
    },
    Measurement {
        description: "host frozen (SIGSTOP), otherwise the same, default settings",
        target: "at most 40 s",
        slow: false,
        run: |programs| host_frozen(programs, &[], Duration::from_secs(40)),
    },
    Measurement {
        description: "host frozen, otherwise the same, --host-lost-after 5s",
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
    Measurement {
        description: "broker killed and restarted immediately",
        target: "no starts, no stops",
        slow: false,
        run: |programs| broker_outage(programs, Duration::ZERO),
    },
    Measurement {
        description: "broker down for 3 minutes",
        target: "no starts, no stops",
        slow: true,
        run: |programs| broker_outage(programs, Duration::from_secs(180)),
    },
    Measurement {
        description: "one of four hosts frozen, 20 workloads created at once: \
                      those on healthy hosts run / all run",
        target: "at most 2 s / 70 s",
        slow: false,
        run: one_of_four,
    },
    Measurement {
        description: "1,000 workloads (100 deployments of 10) created at once on 50 hosts \
                      through an API server, until all are Ready",
        target: "at most 2 x a minimal client that creates as many sequentially, 5 writes each, \
                 no conflicts, balanced to within 1",
        slow: false,
        run: burst::run,
    },
    Measurement {
        description: "steady state: 1,000 hosts at 15 s heartbeats, 100 workloads",
        target: "at most 5% of one core, no files written",
        slow: true,
        run: steady,
    },
];

/// Runs the measurements whose description contains `only`, and prints the results. The exit code
/// shows whether all targets are met. Measures the programs in the directory `programs`, or else a
/// release build. Skips slow measurements unless `slow` is set.
///
/// # Errors
///
/// When a program cannot be built or run, or a measurement cannot start.
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
    for measurement in MEASUREMENTS
        .iter()
        .filter(|measurement| measurement.description.contains(only))
    {
        println!("{}", measurement.description);
        if measurement.slow && !slow {
            println!("    skipped without --slow");
            continue;
        }
        let measured = (measurement.run)(&programs)?;
        let verdict = if measured.is_met { "met" } else { "MISSED" };
        println!(
            "    {}; target: {}: {verdict}",
            measured.value, measurement.target
        );
        missed += usize::from(!measured.is_met);
    }
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn build(root: &Path) -> Result<PathBuf, BenchError> {
    println!("bench: building the scheduler and the simulated hosts in release");
    for packages in BUILDS {
        let build = [&["build", "--release", "--locked"], packages].concat();
        let status = cargo::command(root, &build)
            .status()
            .map_err(BenchError::Cargo)?;
        if !status.success() {
            return Err(BenchError::Build);
        }
    }
    let program = cargo::program(root, "release", "berth-scheduler");
    Ok(program.parent().unwrap_or(root).to_path_buf())
}

/// Two builds: in a single one, the examples would enable features that only the tests of the suite
/// need.
const BUILDS: [&[&str]; 2] = [
    &["-p", "berth-scheduler", "-p", "berth-conformance"],
    &["-p", "berth-scheduler", "--examples"],
];

/// Timeout for states that an idle machine reaches within two seconds, or within a heartbeat after
/// the start of the scheduler.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Number of replicas on the two hosts.
const REPLICAS: usize = 10;

/// Returns a fixture with ten replicas on two hosts.
fn two_hosts<'a>(programs: &'a Programs, flags: &[&str]) -> Result<Fixture<'a>, BenchError> {
    let mut fixture = Fixture::start(programs, flags)?;
    fixture.add_host()?;
    fixture.add_host()?;
    fixture.deploy("ten", REPLICAS)?;
    fixture.prepare("10 replicas on 2 hosts", TIMEOUT, |counters| {
        counters.running() == REPLICAS && counters.running_on(0) > 0 && counters.running_on(1) > 0
    })?;
    Ok(fixture)
}

fn host_killed(programs: &Programs) -> Result<Measured, BenchError> {
    let mut fixture = two_hosts(programs, &[])?;
    fixture.kill_host(0);
    let took = fixture.time_until(TIMEOUT, |counters| counters.running_on(1) == REPLICAS);
    Ok(within(took, Duration::from_secs(2)))
}

fn host_frozen(
    programs: &Programs,
    flags: &[&str],
    target: Duration,
) -> Result<Measured, BenchError> {
    let mut fixture = two_hosts(programs, flags)?;
    fixture.freeze_host(0)?;
    let took = fixture.time_until(TIMEOUT, |counters| counters.running_on(1) == REPLICAS);
    Ok(within(took, target))
}

/// Time in which the hosts reconnect and any mistake of the scheduler becomes visible.
const OBSERVATION: Duration = Duration::from_secs(45);

fn broker_outage(programs: &Programs, outage: Duration) -> Result<Measured, BenchError> {
    let mut fixture = two_hosts(programs, &[])?;
    let before = fixture.counters().commands();
    fixture.stop_broker();
    fixture.time_until(outage, |_| false);
    fixture.start_broker()?;
    fixture.time_until(OBSERVATION, |counters| counters.commands() != before);
    let difference = |now: (usize, usize)| (now.0 - before.0, now.1 - before.1);
    let (starts, stops) = difference(fixture.counters().commands());
    // The absence of commands proves something only if the scheduler still works.
    fixture.deploy("after", 2)?;
    let all_run = |counters: &FleetCounters| counters.running() == REPLICAS + 2;
    fixture.prepare("a workload after the outage", TIMEOUT, all_run)?;
    Ok(Measured {
        value: format!("{starts} starts, {stops} stops"),
        is_met: (starts, stops) == (0, 0),
    })
}

/// Number of workloads created at once.
const AT_ONCE: usize = 20;
/// Number of them on the three healthy hosts, if spread evenly.
const ON_HEALTHY_HOSTS: usize = 15;

fn one_of_four(programs: &Programs) -> Result<Measured, BenchError> {
    let mut fixture = Fixture::start(programs, &[])?;
    for _ in 0..4 {
        fixture.add_host()?;
    }
    fixture.deploy("initial", 4)?;
    fixture.prepare("a replica on each of 4 hosts", TIMEOUT, |counters| {
        (0..4).all(|host| counters.running_on(host) == 1)
    })?;
    fixture.freeze_host(3)?;
    let on_healthy =
        |counters: &FleetCounters| (0..3).map(|host| counters.running_on(host)).sum::<usize>();
    for number in 0..AT_ONCE {
        fixture.deploy(&format!("one-{number}"), 1)?;
    }
    let healthy = fixture.time_until(TIMEOUT, |counters| {
        on_healthy(counters) >= 3 + ON_HEALTHY_HOSTS
    });
    // Includes the replica of the frozen host.
    let all = fixture.time_until(TIMEOUT, |counters| on_healthy(counters) >= 4 + AT_ONCE);
    let all = healthy.zip(all).map(|(first, rest)| first + rest);
    let is_met = healthy.is_some_and(|took| took <= Duration::from_secs(2))
        && all.is_some_and(|took| took <= Duration::from_secs(70));
    let value = format!("{} / {}", seconds(healthy), seconds(all));
    Ok(Measured { value, is_met })
}

/// Time until the fleet is steady, and time of the measurement.
const STEADY: [Duration; 2] = [Duration::from_secs(45), Duration::from_secs(60)];
const STEADY_HOSTS: usize = 1000;
const STEADY_WORKLOADS: usize = 100;

fn steady(programs: &Programs) -> Result<Measured, BenchError> {
    let mut fixture = Fixture::start(programs, &[])?;
    fixture.add_hosts(STEADY_HOSTS)?;
    fixture.deploy("steady", STEADY_WORKLOADS)?;
    fixture.prepare("100 replicas on 1,000 hosts", TIMEOUT, |counters| {
        counters.running() == STEADY_WORKLOADS
    })?;
    let [settling, period] = STEADY;
    fixture.time_until(settling, |_| false);
    let (started, before) = (SystemTime::now(), fixture.scheduler_ticks());
    fixture.time_until(period, |_| false);
    let used = before
        .zip(fixture.scheduler_ticks())
        .zip(process::ticks_per_second());
    let percent = used.map(|((before, after), per_second)| {
        100.0 * after.saturating_sub(before) as f64 / per_second as f64 / period.as_secs_f64()
    });
    let written = fixture.files_written_since(started);
    let share = percent.map_or_else(
        || "an unknown share".to_owned(),
        |share| format!("{share:.1}%"),
    );
    Ok(Measured {
        value: format!("{share} of one core, {written} files written"),
        is_met: percent.is_some_and(|share| share <= 5.0) && written == 0,
    })
}

fn within(took: Option<Duration>, target: Duration) -> Measured {
    Measured {
        value: seconds(took),
        is_met: took.is_some_and(|took| took <= target),
    }
}

fn seconds(took: Option<Duration>) -> String {
    took.map_or_else(
        || format!("not within {} s", TIMEOUT.as_secs()),
        |took| format!("{:.1} s", took.as_secs_f64()),
    )
}
