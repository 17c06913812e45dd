//! Storms from many seeds. `BERTH_SIM_SEEDS` says how many or which (`1000..2000`), `BERTH_SIM_SEED` plays one
//! again and prints all that happens in it.

use std::env;
use std::ops::Range;

use super::storm::Script;

/// The seeds that are played when nothing is said.
const SEEDS: Range<u64> = 0..200;

/// Seeds beyond those in which something went wrong once.
const MENDED: [u64; 11] = [
    677, 1174, 1411, 2196, 2889, 3494, 3784, 5033, 5152, 5471, 6470,
];

#[test]
fn no_storm_leaves_a_trace() {
    if let Ok(seed) = env::var("BERTH_SIM_SEED") {
        return play_one(seed.parse().expect("a number"));
    }
    let asked = env::var("BERTH_SIM_SEEDS").ok();
    let seeds = asked.as_deref().map_or(SEEDS, range_of);
    let mut failures = seeds.chain(MENDED).filter_map(|seed| {
        let what = Script::from_seed(seed).play(false).err()?.what;
        eprintln!("seed {seed}: {what}");
        Some((seed, what))
    });
    let Some((seed, violation)) = failures.next() else {
        return;
    };
    let shrunk = Script::from_seed(seed).shrunk();
    let shorter = shrunk.play(false).err().map(|failure| failure.what);
    let others: Vec<_> = failures.collect();
    panic!(
        "seed {seed}: {violation}\nshrunk to {shrunk:#?}\nwhere {shorter:?}\n\
         again: BERTH_SIM_SEED={seed} cargo test -p berth-scheduler --test sim no_storm\n\
         others: {others:#?}"
    );
}

/// `1000` are the first thousand, `1000..2000` those that follow.
fn range_of(text: &str) -> Range<u64> {
    let (from, to) = text.split_once("..").unwrap_or(("0", text));
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn play_one(seed: u64) {
    let script = Script::from_seed(seed).shrunk();
    match script.play(true) {
        Ok(world) => println!("seed {seed} is fine: {} steps", world.steps),
        Err(failure) => {
            for line in failure.log {
                println!("{line}");
            }
            panic!("seed {seed}: {}\n{script:#?}", failure.what);
        }
    }
}

#[test]
fn a_seed_plays_the_same_twice() {
    let play = |seed| {
        let world = Script::from_seed(seed)
            .play(true)
            .unwrap_or_else(|failure| panic!("{}", failure.what));
        world.log
    };
    assert_eq!(play(7), play(7));
}
