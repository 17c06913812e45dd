//! Target file of a scheduler (`target.toml`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{Access, IntakeConfig, KubernetesConfig, Launch, READY_WITHIN, Target};
use crate::check::side::Side;
use crate::check::target_file::{TargetFile, TargetFileError};
use crate::scheduler::intake::ExecConfig;
use crate::scheduler::timings::{TimingError, Timings};

/// Example that `init --scheduler` writes.
pub const EXAMPLE: &str = include_str!("example.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: TargetTable,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
    intake: Option<IntakeTable>,
    /// Optional features that the scheduler has (`true`) or lacks (`false`).
    #[serde(default)]
    features: BTreeMap<String, bool>,
    #[serde(default)]
    timings: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    name: String,
    version: Option<String>,
    profiles: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaunchTable {
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Maximum time until the canary runs, in seconds. Target files of hosts have the same key.
    #[serde(rename = "ready_s")]
    ready_within_s: Option<u64>,
    stop_signal: Option<String>,
    isolation_args: Option<Vec<String>>,
    leader_election_args: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunningTable {
    nats_url: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum IntakeTable {
    Dir {
        #[serde(default = "dir_placeholder")]
        manifests: String,
        #[serde(default = "status_placeholder")]
        status: String,
    },
    Exec {
        submit: Vec<String>,
        scale: Option<Vec<String>>,
        delete: Vec<String>,
        observe: Vec<String>,
    },
    Kube {
        kubeconfig: Option<String>,
        namespace: Option<String>,
    },
}

fn dir_placeholder() -> String {
    "{dir}".to_owned()
}

fn status_placeholder() -> String {
    "{dir}/.berth".to_owned()
}

/// Keys of all tables, for the suggestion after an unknown key.
const KNOWN_KEYS: &[&str] = &[
    "target",
    "launch",
    "running",
    "intake",
    "features",
    "timings",
    "name",
    "version",
    "profiles",
    "command",
    "env",
    "ready_s",
    "stop_signal",
    "isolation_args",
    "leader_election_args",
    "nats_url",
    "kind",
    "manifests",
    "status",
    "submit",
    "scale",
    "delete",
    "observe",
    "kubeconfig",
    "namespace",
];

/// Loads a target file.
///
/// # Errors
/// Fails if the file is invalid.
pub fn load(path: &Path) -> Result<Target, TargetFileError> {
    let target_file = TargetFile {
        path,
        side: Side::Scheduler,
    };
    let file: File = target_file.parse(KNOWN_KEYS)?;
    let access = access(target_file, file.launch, file.running)?;
    let mut target = Target::new(file.target.name, access);
    match file.intake {
        None => {}
        Some(IntakeTable::Dir { manifests, status }) => {
            target.intake = IntakeConfig::Dir { manifests, status };
        }
        Some(IntakeTable::Exec {
            submit,
            scale,
            delete,
            observe,
        }) => {
            target.intake = IntakeConfig::Exec(ExecConfig {
                submit,
                scale,
                delete,
                observe,
            });
        }
        Some(IntakeTable::Kube {
            kubeconfig,
            namespace,
        }) => {
            target = target.with_kubernetes(KubernetesConfig {
                kubeconfig,
                namespace,
            });
        }
    }
    target.file = Some(path.to_path_buf());
    target.version = file.target.version;
    if let Some(names) = file.target.profiles {
        target.profiles = target_file.profiles(&names)?;
    }
    target.features = file.features;
    let invalid = |error: TimingError| TargetFileError::Timings {
        path: target_file.display_path(),
        source: error.into(),
    };
    target.timings = Timings::from_declared(&file.timings).map_err(invalid)?;
    Ok(target)
}

fn access(
    target_file: TargetFile<'_>,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
) -> Result<Access, TargetFileError> {
    match (launch, running) {
        (Some(table), None) => Ok(Access::Launch(Launch {
            env: table.env,
            isolation_args: table.isolation_args,
            leader_election_args: table.leader_election_args,
            ready_within: table
                .ready_within_s
                .map_or(READY_WITHIN, Duration::from_secs),
            stop_signal: target_file.stop_signal(table.stop_signal.as_deref())?,
            ..Launch::new(table.command)
        })),
        (None, Some(table)) => Ok(Access::Running {
            nats_url: table.nats_url,
        }),
        _ => Err(TargetFileError::Access(target_file.display_path())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minimal tables of a valid target file.
    const MINIMAL_TABLES: &str = "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n";

    fn read(text: &str) -> Result<Target, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|error| crate::check::outcome::error_chain(&error))
    }

    #[test]
    fn page_lists_every_key() {
        let page = include_str!("../../../../docs/conformance/target.md");
        for key in KNOWN_KEYS {
            let is_listed = page.contains(&format!(".{key}")) || page.contains(&format!("`{key}."));
            assert!(
                is_listed,
                "docs/conformance/target.md lacks the key `{key}`"
            );
        }
    }

    #[test]
    fn example_is_valid() {
        let target = read(EXAMPLE).unwrap();
        assert_eq!(target.name, "my-scheduler");
        assert_eq!(target.timings.silence, Duration::from_secs(5));
    }

    #[test]
    fn scale_command_is_optional() {
        let without_scale = format!(
            "{MINIMAL_TABLES}[intake]\nkind = \"exec\"\nsubmit = [\"s\"]\ndelete = [\"d\"]\nobserve = [\"o\"]\n"
        );
        let target = read(&without_scale).unwrap();
        assert!(matches!(target.intake, IntakeConfig::Exec(_)));
    }

    #[test]
    fn error_describes_mistake() {
        for (text, expected) in [
            (
                format!("{MINIMAL_TABLES}[timings]\nakt_ms = 1"),
                "did you mean `act_ms`",
            ),
            (
                format!("{MINIMAL_TABLES}[timings]\nact_ms = 60000"),
                "at most 10000",
            ),
            (
                "[target]\nname = \"a\"".to_owned(),
                "exactly one of [launch] and [running]",
            ),
            (
                format!("{MINIMAL_TABLES}comand = [\"x\"]"),
                "did you mean `command`",
            ),
            (
                format!("{MINIMAL_TABLES}stop_signal = \"SIGTER\""),
                "did you mean `SIGTERM`",
            ),
            ("not toml".to_owned(), "invalid scheduler target file"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
