//! Options of a run of either side: selection of checks, repetition, broker and known failures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::executor::{NoObserver, Observer};
use super::known_failures::{KnownFailures, KnownFailuresError};
use super::meta::CheckMeta;
use super::outcome::{Outcome, Status, error_chain};
use super::pattern::{Pattern, suggestion};
use crate::spec::requirements::Profile;
use crate::testbed::broker::BrokerChoice;

/// Maximum number of runs of each check; no suite needs more.
pub const MAX_REPEAT: usize = 1000;

/// Waiting time by design above which `--quick` excludes a check.
const QUICK_LIMIT: Duration = Duration::from_secs(10);

/// Options of a run.
#[derive(Clone)]
pub struct RunOptions {
    /// Checks and monitors of the judged side.
    pub catalog: Catalog,
    /// Profiles to judge by; if `None`, the profiles that the target claims.
    pub profiles: Option<Vec<Profile>>,
    /// Patterns of the selected checks; empty selects all.
    pub run: Vec<Pattern>,
    /// Patterns of the excluded checks.
    pub skip: Vec<Pattern>,
    /// Whether to include slow checks.
    pub slow: bool,
    /// Whether to exclude checks that wait longer than 10 s by design.
    pub quick: bool,
    /// Whether to record the traffic of passing checks as well.
    pub wire: bool,
    /// Seed of the order of checks.
    pub seed: u64,
    /// Number of runs of each check.
    pub repeat: usize,
    /// Maximum number of concurrent checks.
    pub jobs: usize,
    /// Broker to use.
    pub broker: BrokerChoice,
    /// Known-failures file.
    pub known_failures: Option<PathBuf>,
    /// Observer of the progress.
    pub observer: Arc<dyn Observer>,
    /// Token that interrupts the run.
    pub stop: CancellationToken,
}

/// Invalid options.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A pattern matches nothing.
    #[error("`{pattern}` matches no check and no requirement{suggestion}")]
    Unmatched {
        /// Pattern.
        pattern: String,
        /// Suggestion of a similar name, or an explanation.
        suggestion: String,
    },
    /// The known-failures file is invalid.
    #[error(transparent)]
    KnownFailures(#[from] KnownFailuresError),
    /// The target file declares a feature that no check depends on.
    #[error("[features] declares `{feature}`, and no check of a {side} depends on it{suggestion}")]
    UnknownFeature {
        /// Name of the feature.
        feature: String,
        /// Name of the side.
        side: &'static str,
        /// Suggestion of a similar feature.
        suggestion: String,
    },
    /// Two options exclude each other.
    #[error("{0}")]
    Contradiction(String),
}

impl RunOptions {
    /// Creates the options of a run of all checks of one side, with the defaults.
    pub fn new(catalog: Catalog, jobs: usize) -> RunOptions {
        RunOptions {
            catalog,
            profiles: None,
            run: Vec::new(),
            skip: Vec::new(),
            slow: false,
            quick: false,
            wire: false,
            seed: rand::random::<u32>().into(),
            repeat: 1,
            jobs,
            broker: BrokerChoice::Embedded,
            known_failures: None,
            observer: Arc::new(NoObserver),
            stop: CancellationToken::new(),
        }
    }

    /// Validates the patterns and the known-failures file.
    ///
    /// # Errors
    /// Fails if a pattern matches no check, or if the known-failures file is invalid.
    pub fn validate(&self) -> Result<(), UsageError> {
        for pattern in self.run.iter().chain(&self.skip) {
            if !self
                .catalog
                .checks
                .iter()
                .any(|check| pattern.matches(check))
            {
                let is_known = self.catalog.names().any(|name| pattern.matches_id(name));
                let suggestion = if is_known {
                    "; it names a requirement that has no check".to_owned()
                } else {
                    suggestion(&pattern.0, self.catalog.names())
                };
                return Err(UsageError::Unmatched {
                    pattern: pattern.0.clone(),
                    suggestion,
                });
            }
        }
        self.load_known_failures()?;
        Ok(())
    }

    /// Validates the features that the target declares present or absent. `known` are the features
    /// that checks depend on.
    ///
    /// # Errors
    /// Fails if a feature is unknown, because its declaration would have no effect.
    pub fn validate_features(
        &self,
        declared: &BTreeMap<String, bool>,
        known: &[&'static str],
    ) -> Result<(), UsageError> {
        let unknown = declared.keys().find(|name| !known.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            Err(UsageError::UnknownFeature {
                feature: name.clone(),
                side: self.catalog.side.name(),
                suggestion: suggestion(name, known.iter().copied()),
            })
        })
    }

    /// Loads the known-failures file, if there is one.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is invalid.
    pub fn load_known_failures(&self) -> Result<KnownFailures, KnownFailuresError> {
        let now = now_rfc3339();
        match &self.known_failures {
            Some(path) => {
                KnownFailures::load(path, &self.catalog, now.get(..10).unwrap_or_default())
            }
            None => Ok(KnownFailures::default()),
        }
    }

    /// Returns the profiles of a run for a target that claims `claimed`.
    pub fn profiles(&self, claimed: &[Profile]) -> Vec<Profile> {
        self.profiles.clone().unwrap_or_else(|| claimed.to_vec())
    }

    /// Returns the reason why a check does not run, or `None` if it does.
    ///
    /// `waits` is the time that the check waits by design. `target_makes_slow` is whether the check
    /// is slow because of times that the target declares.
    pub fn skip_reason(
        &self,
        check: &CheckMeta,
        profiles: &[Profile],
        waits: Duration,
        target_makes_slow: bool,
    ) -> Option<&'static str> {
        if !check.belongs_to(profiles) {
            return Some("its profile is not selected");
        }
        if !self.run.is_empty() && !self.run.iter().any(|pattern| pattern.matches(check)) {
            return Some("excluded by --run");
        }
        if self.skip.iter().any(|pattern| pattern.matches(check)) {
            return Some("excluded by --skip");
        }
        if (check.slow || target_makes_slow) && !self.slow {
            return Some("slow: add --slow");
        }
        (self.quick && (check.slow || waits > QUICK_LIMIT)).then_some("long: omit --quick")
    }

    /// Validates the options and returns the known failures.
    ///
    /// # Errors
    /// Fails with the message of the [`UsageError`] and its causes.
    pub fn validated_known_failures(&self) -> Result<KnownFailures, String> {
        self.validate().map_err(|error| error_chain(&error))?;
        self.load_known_failures()
            .map_err(|error| error_chain(&error))
    }

    /// Returns the `--run`, `--skip` and `--quick` flags of this run.
    pub fn filters(&self) -> Vec<String> {
        let flags = |flag: &str, patterns: &[Pattern]| -> Vec<String> {
            patterns
                .iter()
                .map(|pattern| format!("{flag} {}", pattern.0))
                .collect()
        };
        let quick = self.quick.then(|| "--quick".to_owned());
        let quick: Vec<String> = quick.into_iter().collect();
        [
            flags("--run", &self.run),
            flags("--skip", &self.skip),
            quick,
        ]
        .concat()
    }

    /// Returns the command line that repeats this run, with the placeholder `{run}` for the
    /// selection.
    pub fn rerun_command(&self, profiles: &[Profile], target_arguments: &str) -> String {
        let mut words = vec![
            env!("CARGO_PKG_NAME").to_owned(),
            self.catalog.side.name().to_owned(),
        ];
        if self.profiles.is_some() {
            words.extend(
                profiles
                    .iter()
                    .map(|profile| format!("--profile {}", profile.name())),
            );
        }
        if self.broker != BrokerChoice::Embedded {
            words.push(format!("--broker {}", self.broker));
        }
        words.push(format!("--seed {}", self.seed));
        words.push("{run}".to_owned());
        words.push(target_arguments.to_owned());
        words.join(" ").trim_end().to_owned()
    }
}

/// Returns the outcome of a check that does not run.
pub fn not_run(check: &CheckMeta, reason: &str) -> Outcome {
    Outcome::new(check.id, check.covers, Status::NotRun).with_reason(reason)
}

/// Formats a command as the arguments `-- COMMAND …`, quoted for a shell.
pub fn command_arguments(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| shell_quoted(word)).collect();
    format!("-- {}", words.join(" "))
}

/// Formats a target file as the arguments `--target FILE`, quoted for a shell.
pub fn target_file_arguments(file: &Path) -> String {
    format!("--target {}", shell_quoted(&file.display().to_string()))
}

/// Quotes a word for a shell, if necessary.
pub fn shell_quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,{}@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Returns a random token that separates the ids of two runs on one broker.
///
/// The token is short because people read the ids; 32 bits suffice to avoid conflicts.
pub fn run_token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Returns the current time as RFC 3339 in UTC.
pub fn now_rfc3339() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    crate::wire::timestamp::rfc3339_ms(now.as_millis()) + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_a_valid_timestamp() {
        assert!(crate::wire::json_judge::is_rfc3339(&now_rfc3339()));
    }

    #[test]
    fn quotes_words_for_a_shell() {
        assert_eq!(shell_quoted("--nats={nats_url}"), "--nats={nats_url}");
        assert_eq!(shell_quoted("it's"), "'it'\\''s'");
        assert_eq!(shell_quoted(""), "''");
    }
}
