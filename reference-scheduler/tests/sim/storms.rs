//! Storms from many seeds. `BERTH_SIM_SEEDS` says how many, `BERTH_SIM_SEED` plays one again and prints
//! all that happens in it.

use std::env;

use super::storm::Script;

/// How many seeds are played when nothing is said.
const SEEDS: u64 = 200;

#[test]
fn no_storm_leaves_a_trace() {
    if let Ok(seed) = env::var("BERTH_SIM_SEED") {
        return play_one(seed.parse().expect("a number"));
    }
    let seeds = env::var("BERTH_SIM_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let script = Script::from_seed(seed);
        if let Err(failure) = script.play(false) {
            let violation = failure.what;
            let shrunk = script.shrunk();
            let shorter = shrunk.play(false).err().map(|failure| failure.what);
            panic!(
                "seed {seed}: {violation}\nshrunk to {shrunk:#?}\nwhere {shorter:?}\n\
                 again: BERTH_SIM_SEED={seed} cargo test -p berth-scheduler --test sim no_storm"
            );
        }
    }
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
