//! The target without a target: `berth-scheduler`, with the directory intake and short times.

use std::{path::Path, time::Duration};

use super::{Access, Launch, Target};
use crate::{scheduler::timing::Timings, target::default::find};

/// `berth-scheduler` from `BERTH_SCHEDULER`, from beside this program, or from the PATH.
pub fn berth_scheduler() -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    let launch = Launch {
        isolated: Some(vec!["--allow-shared-hosts=false".to_owned()]),
        ..Launch::new(command_of(&program))
    };
    let seconds = Duration::from_secs;
    Some(Target {
        timings: Timings {
            act: seconds(4),
            show: seconds(4),
            register: seconds(3),
            poll: seconds(5),
            notice: seconds(6),
            silence: seconds(8),
            retry: seconds(20),
            cleanup: seconds(6),
            fence: seconds(14),
            ..Timings::default()
        },
        ..Target::new("berth-scheduler", Access::Launch(launch))
    })
}

/// How `berth-scheduler` is launched: with times that are shorter than its defaults, so that a run does not take
/// minutes.
pub fn command_of(program: &Path) -> Vec<String> {
    let words = [
        "--nats-url",
        "{nats_url}",
        "--store",
        "dir:{dir}",
        "--host-lost-after",
        "6s",
        "--fence",
        "10s",
        "--status-interval",
        "2s",
    ];
    let mut command = vec![program.display().to_string()];
    command.extend(words.map(str::to_owned));
    command
}
