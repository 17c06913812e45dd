//! The core at a size that no test waits for: `cargo bench -p berth-scheduler --bench sim`.
//!
//! Prints one line for each measure, and ends with 1 when one misses its target. Times are processor
//! times inside the core; what a store or a bus would take comes on top. `BERTH_SIM_SEEDS` says how many
//! storms are played besides.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it shares the simulator of the tests, and may fail as they do"
)]

mod fleet;
/// What the simulator's tests are made of.
#[path = "../../tests/sim"]
mod sim {
    pub mod chance;
    pub mod host;
    pub mod ledger;
    pub mod store;
    pub mod storm;
    pub mod workloads;
    pub mod world;
}

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::fleet::Fleet;
use self::sim::storm::Script;

/// Hosts and workloads of the large fleet.
const HOSTS: usize = 10_000;
const WORKLOADS: usize = 100_000;

/// The most that placing all of it may take, and that deciding what follows from 1,000 deaths may take.
const DECISION: Duration = Duration::from_secs(2);

/// The most memory that the large fleet may take.
const MEMORY_MIB: u64 = 1024;

fn main() -> ExitCode {
    let seeds = std::env::var("BERTH_SIM_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    let met = [large_fleet(), rest(), storms(seeds.unwrap_or(1000))];
    match met.iter().all(|met| *met) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn large_fleet() -> bool {
    let mut fleet = Fleet::new(HOSTS, WORKLOADS);
    let told = fleet.tell();
    let placed = fleet.place();
    let mut good = told_ok("tell", told, Duration::MAX);
    good &= told_ok("one full placement", placed, DECISION);
    good &= even("after placement", &fleet.loads());
    fleet.settle();
    let memory_mib = peak_mib();
    println!(
        "{:<44} {memory_mib} MiB (at most {MEMORY_MIB})",
        "memory at its peak"
    );
    good &= memory_mib <= MEMORY_MIB;
    let decided = fleet.kill(HOSTS / 10);
    good &= told_ok("a tenth of the hosts dies: decisions", decided, DECISION);
    good & even("after the deaths", &fleet.loads())
}

/// A thousand hosts with ten workloads each, at rest.
fn rest() -> bool {
    let mut fleet = Fleet::new(1000, 10_000);
    fleet.tell();
    fleet.place();
    fleet.settle();
    let (spent, writes) = fleet.rest(Duration::from_secs(60));
    let percent = spent.as_secs_f64() / 60.0 * 100.0;
    println!(
        "{:<44} {percent:.2} % of a core, {writes} writes",
        "1,000 hosts at rest for a minute"
    );
    percent <= 5.0 && writes == 0
}

fn storms(seeds: u64) -> bool {
    let began = Instant::now();
    for seed in 0..seeds {
        if let Err(failure) = Script::from_seed(seed).play(false) {
            println!("storm {seed}: {}", failure.what);
            return false;
        }
    }
    println!(
        "{:<44} {seeds} in {:.1?}",
        "storms without a trace",
        began.elapsed()
    );
    true
}

fn told_ok(what: &str, took: Duration, limit: Duration) -> bool {
    let limited = match limit {
        Duration::MAX => String::new(),
        limit => format!(" (at most {limit:?})"),
    };
    println!("{what:<44} {took:.2?}{limited}");
    took <= limit
}

fn even(when: &str, loads: &[usize]) -> bool {
    let (least, most) = (
        loads.iter().min().copied().unwrap_or(0),
        loads.iter().max().copied().unwrap_or(0),
    );
    let mean = loads.iter().sum::<usize>() as f64 / loads.len().max(1) as f64;
    println!(
        "{:<44} {least} to {most}, {mean:.2} on average",
        format!("workloads on a host {when}")
    );
    // Within 10 percent, or to the next whole number.
    least as f64 >= (mean * 0.9).floor() && most as f64 <= (mean * 1.1).ceil()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
