//! The target without a target: `berth-scheduler`, with the directory intake and short times.

use std::path::Path;

use super::{Access, Launch, Target};
use crate::target::default::find;

/// `berth-scheduler` from `BERTH_SCHEDULER`, from beside this program, or from the PATH.
pub fn berth_scheduler() -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    Some(Target {
        name: "berth-scheduler".to_owned(),
        ..Target::new(
            "berth-scheduler",
            Access::Launch(Launch::new(command_of(&program))),
        )
    })
}

/// How `berth-scheduler` is launched.
pub fn command_of(program: &Path) -> Vec<String> {
    let words = ["--nats-url", "{nats_url}", "--store", "dir:{dir}"];
    let mut command = vec![program.display().to_string()];
    command.extend(words.map(str::to_owned));
    command
}
