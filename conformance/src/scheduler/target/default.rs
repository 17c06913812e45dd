//! Default target: `berth-scheduler` with the directory intake and short time limits.

use std::path::Path;
use std::time::Duration;

use super::{Access, KubernetesConfig, Launch, Target};
use crate::scheduler::timings::Timings;
use crate::testbed::program::find;

/// Returns `berth-scheduler` from `BERTH_SCHEDULER`, from the directory of this program, or from
/// the PATH.
pub fn berth_scheduler() -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    Some(target_of(&program, &DIR_STORE_ARGS))
}

/// Returns [`berth_scheduler`] with the kube intake instead of the directory intake.
pub fn berth_scheduler_on_kubernetes(config: KubernetesConfig) -> Option<Target> {
    let program = find("BERTH_SCHEDULER", "berth-scheduler")?;
    Some(kubernetes_target(&program, config))
}

/// Returns the reference scheduler at `program` with the kube intake.
pub fn kubernetes_target(program: &Path, config: KubernetesConfig) -> Target {
    let target = target_of(program, &KUBE_STORE_ARGS).with_kubernetes(config);
    // Every step is a request to an API server, which shares the machine with the suite. The times
    // that contain such requests therefore keep the maximum of the specification.
    let (maxima, shortened) = (Timings::default(), target.timings);
    Target {
        timings: Timings {
            act: maxima.act,
            show: maxima.show,
            register: maxima.register,
            notice: maxima.notice,
            ..shortened
        },
        ..target
    }
}

/// Returns the target for `program`. `store_args` select its store, from which it reads manifests:
/// the directory of the directory intake, or the API server of the kube intake.
fn target_of(program: &Path, store_args: &[&str]) -> Target {
    let launch = Launch {
        isolation_args: Some(vec!["--allow-shared-hosts=false".to_owned()]),
        leader_election_args: Some(vec!["--leader-elect".to_owned()]),
        ..Launch::new(command_of(program, store_args))
    };
    let seconds = Duration::from_secs;
    Target {
        // Maximum times that `berth-scheduler` keeps with the options of `command_of`.
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

/// Options for the store of the directory intake.
const DIR_STORE_ARGS: [&str; 2] = ["--store", "dir:{dir}"];
/// Options for the store of the kube intake. Many schedulers run concurrently, so none of them may
/// listen on the default ports for metrics and probes.
const KUBE_STORE_ARGS: [&str; 10] = [
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

/// Returns the command with time limits that are shorter than the defaults, so that a run takes
/// less time.
fn command_of(program: &Path, store_args: &[&str]) -> Vec<String> {
    let args = [
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
    command.extend(store_args.iter().chain(&args).map(|arg| (*arg).to_owned()));
    command
}
