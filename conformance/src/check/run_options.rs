//! What was asked of a run, whichever side it judges: which checks, how often, with which excuses;
//! and the report that comes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::executor::{NoObserver, Observer};
use super::known_failures::KnownFailures;
use super::meta::CheckMeta;
use super::outcome::{Outcome, Status, chain};
use super::pattern::{Pattern, suggestion};
use crate::spec::requirements::Profile;
use crate::testbed::broker::BrokerChoice;

/// Nobody repeats a suite more often in one run.
pub const MAX_REPEAT: usize = 1000;

/// The settings of a run.
#[derive(Clone)]
pub struct RunOptions {
    /// Checks and monitors of the side that is judged.
    pub catalog: Catalog,
    /// By which profiles, when not by those that the target claims.
    pub profiles: Option<Vec<Profile>>,
    /// Only checks that match one of these.
    pub run: Vec<Pattern>,
    /// None of those that match one of these.
    pub skip: Vec<Pattern>,
    /// Slow checks as well.
    pub slow: bool,
    /// The order in which checks begin.
    pub seed: u64,
    /// How often each check runs.
    pub repeat: usize,
    /// How many checks run at once.
    pub jobs: usize,
    /// Which broker.
    pub broker: BrokerChoice,
    /// The failures that are known.
    pub known: Option<PathBuf>,
    /// Whoever wants to know how far the run is.
    pub observer: Arc<dyn Observer>,
    /// Ends the run early.
    pub stop: CancellationToken,
}

/// The suite was asked for something that there is not.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A pattern names nothing.
    #[error("`{pattern}` matches no check and no requirement{suggestion}")]
    Unmatched {
        /// The pattern.
        pattern: String,
        /// The near spelling.
        suggestion: String,
    },
    /// The known-failures file is not valid.
    #[error(transparent)]
    KnownFailures(#[from] crate::check::known_failures::KnownFailuresError),
    /// Two things that exclude each other.
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
            seed: rand::random::<u32>().into(),
            repeat: 1,
            jobs,
            broker: BrokerChoice::Embedded,
            known: None,
            observer: Arc::new(NoObserver),
            stop: CancellationToken::new(),
        }
    }

    /// Whether everything that was asked for exists.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), UsageError> {
        for pattern in self.run.iter().chain(&self.skip) {
            if !self
                .catalog
                .checks
                .iter()
                .any(|check| pattern.matches(check))
            {
                let known = self.catalog.names().any(|name| pattern.matches_id(name));
                let suggestion = if known {
                    "; it names a requirement that has no check of its own".to_owned()
                } else {
                    suggestion(&pattern.0, self.catalog.names())
                };
                return Err(UsageError::Unmatched {
                    pattern: pattern.0.clone(),
                    suggestion,
                });
            }
        }
        self.excuses()?;
        Ok(())
    }

    /// The failures that are known.
    ///
    /// # Errors
    /// The file is not valid.
    pub fn excuses(
        &self,
    ) -> Result<KnownFailures, crate::check::known_failures::KnownFailuresError> {
        let today = today();
        match &self.known {
            Some(path) => {
                KnownFailures::load(path, &self.catalog, today.get(..10).unwrap_or_default())
            }
            None => Ok(KnownFailures::default()),
        }
    }

    /// The profiles of the run, for a target that claims these.
    pub fn profiles(&self, claimed: &[Profile]) -> Vec<Profile> {
        self.profiles.clone().unwrap_or_else(|| claimed.to_vec())
    }

    /// Why a check is not run, when it is not. `long`: it takes long with this target.
    pub fn reason_against(
        &self,
        case: &CheckMeta,
        profiles: &[Profile],
        long: bool,
    ) -> Option<&'static str> {
        if !case.serves(profiles) {
            return Some("its profile is not selected");
        }
        if !self.run.is_empty() && !self.run.iter().any(|pattern| pattern.matches(case)) {
            return Some("left out by --run");
        }
        if self.skip.iter().any(|pattern| pattern.matches(case)) {
            return Some("left out by --skip");
        }
        ((case.slow || long) && !self.slow).then_some("slow: add --slow")
    }

    /// The excuses, when everything that was asked for exists.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn checked(&self) -> Result<KnownFailures, String> {
        self.validate().map_err(|usage| chain(&usage))?;
        self.excuses().map_err(|bad| chain(&bad))
    }

    /// Returns the `--run` and `--skip` flags of this run.
    pub fn filters(&self) -> Vec<String> {
        let shown = |flag: &str, patterns: &[Pattern]| -> Vec<String> {
            patterns
                .iter()
                .map(|pattern| format!("{flag} {}", pattern.0))
                .collect()
        };
        [shown("--run", &self.run), shown("--skip", &self.skip)].concat()
    }

    /// The command line of this run, with the place of `--run` left to the check.
    pub fn again(&self, profiles: &[Profile], target_words: &str) -> String {
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
        words.push(target_words.to_owned());
        words.join(" ").trim_end().to_owned()
    }
}

/// The outcome of a check that does not run.
pub fn not_run(case: &CheckMeta, reason: &str) -> Outcome {
    Outcome::of(case.id, case.covers, Status::NotRun).because(reason)
}

/// `-- COMMAND …`, as a shell takes it.
pub fn command_words(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!("-- {}", words.join(" "))
}

/// What names a target on a command line that a file describes.
pub fn target_file_words(file: &Path) -> String {
    format!("--target {}", quoted(&file.display().to_string()))
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,{}@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Short, for ids are read by people; 32 bits keep two runs on one broker apart.
pub fn run_token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Now, as RFC 3339 in UTC.
pub fn today() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    crate::wire::timestamp::rfc3339_ms(now.as_millis()) + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_one() {
        assert!(crate::wire::json_judge::is_rfc3339(&today()));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--nats={nats_url}"), "--nats={nats_url}");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
