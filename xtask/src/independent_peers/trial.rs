//! One run of the suite against an independent peer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use super::violation::DIR;
use super::{IndependentPeersError, Side, Violation};

/// Everything that all trials of one side share.
pub(super) struct Bench {
    root: PathBuf,
    suite: PathBuf,
    side: Side,
    target: toml::Table,
    dir: TempDir,
}

/// Result of one trial.
pub(super) struct Report {
    /// Id of the violation; `None` for the peer as it is.
    violation: Option<String>,
    section: String,
    expected: Expectation,
    outcome: Outcome,
    duration: Duration,
}

/// Expected outcome of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    Caught,
    NotCaught,
}

/// Outcome of one trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Checks that failed or warned, each with its reason.
    Caught(Vec<String>),
    /// No check failed or warned.
    NotCaught,
    /// The suite could not judge: its exit code, and its error output.
    NotJudged(Option<i32>, String),
}

/// The part of the suite's JSON report that decides the outcome.
#[derive(Deserialize)]
struct SuiteReport {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    id: String,
    status: String,
    reason: Option<String>,
}

impl Bench {
    /// Reads the target file of the peer.
    pub(super) fn new(
        root: &Path,
        suite: &Path,
        side: Side,
    ) -> Result<Self, IndependentPeersError> {
        let folder = root.join(DIR).join(side.name());
        let path = folder.join("target.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(IndependentPeersError::Read { path, source }),
        };
        let mut target: toml::Table = match toml::from_str(&text) {
            Ok(target) => target,
            Err(source) => return Err(IndependentPeersError::Parse { path, source }),
        };
        make_images_absolute(&mut target, &folder);
        if command_of(&mut target).is_none() {
            return Err(IndependentPeersError::NoCommand { path });
        }
        Ok(Self {
            root: root.to_path_buf(),
            suite: suite.to_path_buf(),
            side,
            target,
            dir: tempfile::tempdir().map_err(IndependentPeersError::Temporary)?,
        })
    }

    /// Judges the peer as it is, by all its profiles.
    pub(super) fn judge_unchanged(&self) -> Result<Report, IndependentPeersError> {
        self.run(None, Expectation::NotCaught, "*".to_owned())
    }

    /// Judges the peer with one violation, by the section of the violated requirement.
    pub(super) fn judge(&self, violation: &Violation) -> Result<Report, IndependentPeersError> {
        let expected = match violation.slips {
            None => Expectation::Caught,
            Some(_) => Expectation::NotCaught,
        };
        self.run(Some(&violation.id), expected, violation.section())
    }

    fn run(
        &self,
        violation: Option<&str>,
        expected: Expectation,
        section: String,
    ) -> Result<Report, IndependentPeersError> {
        let target = self.write_target(violation)?;
        let started = Instant::now();
        let mut command = Command::new(&self.suite);
        command
            .current_dir(&self.root)
            .arg(self.side.name())
            .arg("--target")
            .arg(&target)
            .args(["--run", &section, "--output", "json"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|source| IndependentPeersError::Suite {
                program: self.suite.clone(),
                source,
            })?;
        Ok(Report {
            violation: violation.map(str::to_owned),
            section,
            expected,
            outcome: Outcome::of(&output),
            duration: started.elapsed(),
        })
    }

    /// Writes the target file whose command contains the violation.
    fn write_target(&self, violation: Option<&str>) -> Result<PathBuf, IndependentPeersError> {
        let mut target = self.target.clone();
        if let (Some(violation), Some(command)) = (violation, command_of(&mut target)) {
            command.push("--violation".into());
            command.push(violation.into());
        }
        let path = self
            .dir
            .path()
            .join(format!("{}.toml", violation.unwrap_or("unchanged")));
        std::fs::write(&path, target.to_string()).map_err(IndependentPeersError::Temporary)?;
        Ok(path)
    }
}

fn command_of(target: &mut toml::Table) -> Option<&mut Vec<toml::Value>> {
    let launch = target.get_mut("launch")?.as_table_mut()?;
    launch.get_mut("command")?.as_array_mut()
}

/// Paths in a target file are relative to its folder, and the written files are elsewhere.
fn make_images_absolute(target: &mut toml::Table, folder: &Path) {
    let images = target.get_mut("images").and_then(toml::Value::as_table_mut);
    for (_, image) in images.into_iter().flatten() {
        let file = image.as_table_mut().and_then(|image| image.get_mut("file"));
        if let Some(toml::Value::String(file)) = file {
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
    }
}

impl Outcome {
    fn of(output: &Output) -> Self {
        let code = output.status.code();
        let not_judged = |text: &[u8]| Self::NotJudged(code, String::from_utf8_lossy(text).into());
        if !matches!(code, Some(0 | 1)) {
            return not_judged(&output.stderr);
        }
        let Ok(report) = serde_json::from_slice::<SuiteReport>(&output.stdout) else {
            return not_judged(&output.stdout);
        };
        let checks = report.checks.into_iter();
        let caught: Vec<String> = checks
            .filter(|check| matches!(check.status.as_str(), "fail" | "warn"))
            .map(|check| format!("{}: {}", check.id, check.reason.unwrap_or_default()))
            .collect();
        if caught.is_empty() {
            Self::NotCaught
        } else {
            Self::Caught(caught)
        }
    }
}

impl Report {
    /// Whether the outcome is the expected one.
    pub(super) fn is_expected(&self) -> bool {
        matches!(
            (self.expected, &self.outcome),
            (Expectation::Caught, Outcome::Caught(_))
                | (Expectation::NotCaught, Outcome::NotCaught)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.violation.as_deref().unwrap_or("without a violation");
        let seconds = self.duration.as_secs_f64();
        write!(f, "{name} (--run '{}', {seconds:.1} s): ", self.section)?;
        match &self.outcome {
            Outcome::Caught(checks) => {
                f.write_str("caught by")?;
                checks.iter().try_for_each(|check| write!(f, "\n  {check}"))
            }
            Outcome::NotCaught => f.write_str("no check failed"),
            Outcome::NotJudged(code, output) => {
                match code {
                    Some(code) => write!(f, "not judged, exit code {code}")?,
                    None => f.write_str("not judged, ended by a signal")?,
                }
                let mut lines = output.trim_end().lines();
                lines.try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}
