//! The core at sizes that are too large for tests: `cargo bench -p berth-scheduler --bench sim`.
//!
//! Prints one line for each measurement, and exits with 1 if a measurement misses its target. Times
//! are processor times inside the core, without the store and the bus. `BERTH_SIM_SEEDS` sets the
//! number of fault scripts.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it shares the simulator of the tests, which may panic"
)]

mod fleet;
/// Parts of the tests' simulator.
#[path = "../../tests/sim"]
mod sim {
    pub mod fault_script;
    pub mod host;
    pub mod invariants;
    pub mod rng;
    pub mod store;
    pub mod workloads;
    pub mod world;
}

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::fleet::Fleet;
use self::sim::fault_script::Script;

/// Size of the large fleet.
const HOSTS: usize = 10_000;
const WORKLOADS: usize = 100_000;

/// Time limit of a full placement, and of the decisions after the death of 1,000 hosts.
const DECISION_LIMIT: Duration = Duration::from_secs(2);

/// Memory limit of the large fleet.
const MEMORY_MIB: u64 = 1024;

fn main() -> ExitCode {
    let seeds = std::env::var("BERTH_SIM_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    let met = [large_fleet(), idle(), fault_scripts(seeds.unwrap_or(1000))];
    if met.iter().all(|met| *met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn large_fleet() -> bool {
    let mut fleet = Fleet::new(HOSTS, WORKLOADS);
    let synced = fleet.sync();
    let placed = fleet.place();
    let mut met = report_time("initial sync", synced, Duration::MAX);
    met &= report_time("full placement", placed, DECISION_LIMIT);
    met &= report_distribution("after placement", &fleet.loads());
    fleet.settle();
    let memory_mib = peak_mib();
    println!(
        "{:<44} {memory_mib} MiB (at most {MEMORY_MIB})",
        "peak memory"
    );
    met &= memory_mib <= MEMORY_MIB;
    let decided = fleet.kill(HOSTS / 10);
    met &= report_time(
        "decisions after a tenth of the hosts died",
        decided,
        DECISION_LIMIT,
    );
    met & report_distribution("after the deaths", &fleet.loads())
}

/// Runs a thousand idle hosts with ten workloads each.
fn idle() -> bool {
    let mut fleet = Fleet::new(1000, 10_000);
    fleet.sync();
    fleet.place();
    fleet.settle();
    let (spent, writes) = fleet.idle(Duration::from_secs(60));
    let percent = spent.as_secs_f64() / 60.0 * 100.0;
    println!(
        "{:<44} {percent:.2} % of a core, {writes} writes",
        "1,000 idle hosts for a minute"
    );
    percent <= 5.0 && writes == 0
}

fn fault_scripts(seeds: u64) -> bool {
    let started_at = Instant::now();
    for seed in 0..seeds {
        if let Err(failure) = Script::from_seed(seed).run() {
            println!("seed {seed}: {}", failure.message);
            return false;
        }
    }
    println!(
        "{:<44} {seeds} in {:.1?}",
        "fault scripts without violation",
        started_at.elapsed()
    );
    true
}

/// Prints a measurement and returns whether it is within its limit.
fn report_time(name: &str, took: Duration, limit: Duration) -> bool {
    let limit_text = match limit {
        Duration::MAX => String::new(),
        limit => format!(" (at most {limit:?})"),
    };
    println!("{name:<44} {took:.2?}{limit_text}");
    took <= limit
}

/// Prints the distribution of workloads and returns whether it is even.
fn report_distribution(when: &str, loads: &[usize]) -> bool {
    let (least, most) = (
        loads.iter().min().copied().unwrap_or(0),
        loads.iter().max().copied().unwrap_or(0),
    );
    let mean = loads.iter().sum::<usize>() as f64 / loads.len().max(1) as f64;
    println!(
        "{:<44} {least} to {most}, {mean:.2} on average",
        format!("workloads per host {when}")
    );
    // Within 10 percent, rounded outwards to whole numbers.
    least as f64 >= (mean * 0.9).floor() && most as f64 <= (mean * 1.1).ceil()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
