//! The target without a target: `berth-scheduler`, with the directory intake and short times.

use std::path::Path;
use std::time::Duration;

use super::{Access, KubePlan, Launch, Target};
use crate::scheduler::timings::Timings;
use crate::testbed::program::find;

/// `berth-scheduler` from `BERTH_SCHEDULER`, from beside this program, or from the PATH.
pub fn berth_scheduler() -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    Some(target_of(&program, &DIR_WORDS))
}

/// The same with custom resources.
pub fn berth_scheduler_on_kube(plan: KubePlan) -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    Some(kube_target_of(&program, plan))
}

/// That program, with custom resources.
pub fn kube_target_of(program: &Path, plan: KubePlan) -> Target {
    let target = target_of(program, &KUBE_WORDS).with_kube(plan);
    // Every step is a request to an API server, which has a machine to share, too.
    let (longest, declared) = (Timings::default(), target.timings);
    Target {
        timings: Timings {
            act: longest.act,
            show: longest.show,
            register: longest.register,
            notice: longest.notice,
            ..declared
        },
        ..target
    }
}

fn target_of(program: &Path, store: &[&str]) -> Target {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let launch = Launch {
        isolated: words(&["--allow-shared-hosts=false"]),
        elected: words(&["--leader-elect"]),
        ..Launch::new(command_of(program, store))
    };
    let seconds = Duration::from_secs;
    Target {
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
    }
}

const DIR_WORDS: [&str; 2] = ["--store", "dir:{dir}"];
/// Many run side by side, so none of them may take the ports of metrics and probes.
const KUBE_WORDS: [&str; 10] = [
    "--store",
    "kube",
    "--kubeconfig",
    "{kubeconfig}",
    "--namespace",
    "{namespace}",
    "--watch-namespaces",
    "{namespace}",
    "--metrics-bind-address=0",
    "--health-probe-bind-address=0",
];

/// With times that are shorter than its defaults, so that a run does not take minutes.
fn command_of(program: &Path, store: &[&str]) -> Vec<String> {
    let words = [
        "--nats-url",
        "{nats_url}",
        "--host-lost-after",
        "6s",
        "--fence",
        "10s",
        "--status-interval",
        "2s",
    ];
    let mut command = vec![program.display().to_string()];
    command.extend(store.iter().chain(&words).map(|word| (*word).to_owned()));
    command
}
