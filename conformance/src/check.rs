//! Checks, independent of the side: declaration, run, evidence, outcome and verdict.

pub mod catalog;
pub mod check_run;
pub mod claim;
pub mod conclusion;
pub mod evidence;
pub mod executor;
pub mod isolation;
pub mod known_failures;
pub mod meta;
pub mod monitor_outcome;
pub mod outcome;
pub mod pattern;
pub mod run_options;
pub mod side;
pub mod target_file;
pub mod verdict;
pub mod wait;
