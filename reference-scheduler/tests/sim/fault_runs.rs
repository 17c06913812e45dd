//! Runs the fault scripts of many seeds. `BERTH_SIM_SEEDS` selects the number of seeds or their
//! range (`1000..2000`). `BERTH_SIM_SEED` replays one seed and prints its log. `BERTH_SIM_TRACES`
//! names a directory for the logs of all seeds, to compare the decisions of two versions.

use std::ops::Range;
use std::path::Path;
use std::{env, fs};

use super::fault_script::Script;

/// Seeds of the default run.
const SEEDS: Range<u64> = 0..200;

/// Maximum number of characters that are printed of each log line.
const PRINTED_CHARS: usize = 420;

/// Further seeds, which have failed in the past.
const REGRESSIONS: [u64; 11] = [
    677, 1174, 1411, 2196, 2889, 3494, 3784, 5033, 5152, 5471, 6470,
];

#[test]
fn every_fault_script_settles_without_violation() {
    if let Ok(seed) = env::var("BERTH_SIM_SEED") {
        return replay(seed.parse().expect("a number"));
    }
    let selected = env::var("BERTH_SIM_SEEDS").ok();
    let seeds = selected.as_deref().map_or(SEEDS, range_of);
    if let Some(dir) = env::var_os("BERTH_SIM_TRACES") {
        return seeds.for_each(|seed| write_trace(Path::new(&dir), seed));
    }
    let mut failures = seeds.chain(REGRESSIONS).filter_map(|seed| {
        let message = Script::from_seed(seed).run().err()?.message;
        eprintln!("seed {seed}: {message}");
        Some((seed, message))
    });
    let Some((seed, violation)) = failures.next() else {
        return;
    };
    let minimized = Script::from_seed(seed).minimized();
    let shorter = minimized.run().err().map(|failure| failure.message);
    let others: Vec<_> = failures.collect();
    panic!(
        "seed {seed}: {violation}\nminimized to {minimized:#?}\nwhich fails with {shorter:?}\n\
         to replay: BERTH_SIM_SEED={seed} cargo test -p berth-scheduler --test sim every_fault\n\
         others: {others:#?}"
    );
}

/// Parses a range: `1000` means the seeds from 0 to 999, `1000..2000` the next thousand seeds.
fn range_of(text: &str) -> Range<u64> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn replay(seed: u64) {
    let script = Script::from_seed(seed).minimized();
    match script.run_logged() {
        Ok(world) => println!("seed {seed} passes: {} steps", world.steps),
        Err(failure) => {
            for line in failure.log {
                println!("{}", line.chars().take(PRINTED_CHARS).collect::<String>());
            }
            panic!("seed {seed}: {}\n{script:#?}", failure.message);
        }
    }
}

fn write_trace(dir: &Path, seed: u64) {
    let log = match Script::from_seed(seed).run_logged() {
        Ok(world) => world.log.unwrap_or_default(),
        Err(failure) => failure.log,
    };
    fs::write(dir.join(format!("{seed}.log")), log.join("\n")).expect("a writable directory");
}

#[test]
fn same_seed_produces_same_run() {
    let run = |seed| {
        let world = Script::from_seed(seed)
            .run_logged()
            .unwrap_or_else(|failure| panic!("{}", failure.message));
        world.log
    };
    assert_eq!(run(7), run(7));
}
