//! `target.toml` of a scheduler.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{Access, IntakePlan, KubePlan, Launch, READY_WITHIN, Target};
use crate::check::pattern::suggestion;
use crate::check::side::Side;
use crate::scheduler::intake::ExecPlan;
use crate::scheduler::timings::{TimingError, Timings};

/// What `init --scheduler` writes.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What is wrong with a target file.
#[derive(Debug, thiserror::Error)]
pub enum TargetFileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or a value is of the wrong kind.
    #[error("{path} is not a valid target file of a scheduler")]
    Parse {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is not one of those that there are.
    #[error("{path}: `{value}` is not a {kind}{suggestion}")]
    Unknown {
        /// Which file.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// What it is.
        value: String,
        /// The near spelling.
        suggestion: String,
    },
    /// A declared time is not possible.
    #[error("{path}")]
    Timing {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: TimingError,
    },
    /// Two sections that exclude each other, or none of them.
    #[error("{0}: give either [launch] or [running]")]
    Access(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: TargetTable,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
    intake: Option<IntakeTable>,
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
    ready_s: Option<u64>,
    stop_signal: Option<String>,
    isolated: Option<Vec<String>>,
    elected: Option<Vec<String>>,
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

/// Reads a target file.
///
/// # Errors
/// It is not valid.
pub fn load(path: &Path) -> Result<Target, TargetFileError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TargetFileError::Read {
        path: shown.clone(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|source| TargetFileError::Parse {
        path: shown.clone(),
        source: Box::new(source),
    })?;
    let access = access(&shown, file.launch, file.running)?;
    let mut target = Target::new(file.target.name, access);
    match file.intake {
        None => {}
        Some(IntakeTable::Dir { manifests, status }) => {
            target.intake = IntakePlan::Dir { manifests, status };
        }
        Some(IntakeTable::Exec {
            submit,
            scale,
            delete,
            observe,
        }) => {
            target.intake = IntakePlan::Exec(ExecPlan {
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
            target = target.with_kube(KubePlan {
                kubeconfig,
                namespace,
            });
        }
    }
    target.file = Some(path.to_path_buf());
    target.version = file.target.version;
    if let Some(names) = file.target.profiles {
        target.profiles = names
            .iter()
            .map(|name| profile(&shown, name))
            .collect::<Result<_, _>>()?;
    }
    target.features = file.features;
    let bad = |source| TargetFileError::Timing {
        path: shown.clone(),
        source,
    };
    target.timings = Timings::declared(&file.timings).map_err(bad)?;
    Ok(target)
}

fn access(
    path: &str,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
) -> Result<Access, TargetFileError> {
    match (launch, running) {
        (Some(table), None) => {
            let unknown = |name: &String| TargetFileError::Unknown {
                path: path.to_owned(),
                kind: "signal",
                value: name.clone(),
                suggestion: suggestion(name, ["SIGTERM", "SIGINT"]),
            };
            let stop_signal = match &table.stop_signal {
                None => Signal::SIGTERM,
                Some(name) => name.parse().map_err(|_| unknown(name))?,
            };
            Ok(Access::Launch(Launch {
                env: table.env,
                isolated: table.isolated,
                elected: table.elected,
                ready_within: table.ready_s.map_or(READY_WITHIN, Duration::from_secs),
                stop_signal,
                ..Launch::new(table.command)
            }))
        }
        (None, Some(table)) => Ok(Access::Running {
            nats_url: table.nats_url,
        }),
        _ => Err(TargetFileError::Access(path.to_owned())),
    }
}

fn profile(path: &str, name: &str) -> Result<crate::spec::requirements::Profile, TargetFileError> {
    let profiles = Side::Scheduler.profiles();
    let found = profiles.iter().find(|profile| profile.name() == name);
    found.copied().ok_or_else(|| TargetFileError::Unknown {
        path: path.to_owned(),
        kind: "profile of schedulers",
        value: name.to_owned(),
        suggestion: suggestion(name, profiles.iter().map(|profile| profile.name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Target, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|bad| crate::check::outcome::chain(&bad))
    }

    #[test]
    fn the_example_is_valid() {
        let target = read(EXAMPLE).unwrap();
        assert_eq!(target.name, "my-scheduler");
        assert_eq!(target.timings.silence, Duration::from_secs(5));
    }

    #[test]
    fn mistakes_are_named() {
        let head = "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n";
        let exec = format!(
            "{head}[intake]\nkind = \"exec\"\nsubmit = [\"s\"]\ndelete = [\"d\"]\nobserve = [\"o\"]\n"
        );
        assert!(matches!(read(&exec).unwrap().intake, IntakePlan::Exec(_)));
        for (text, expected) in [
            (
                format!("{head}[timings]\nakt_ms = 1"),
                "did you mean `act_ms`",
            ),
            (format!("{head}[timings]\nact_ms = 60000"), "at most 10000"),
            (
                "[target]\nname = \"a\"".to_owned(),
                "either [launch] or [running]",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
