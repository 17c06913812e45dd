//! Known-failures file: each entry matches one failure by its text, with a reason and an expiry
//! date.

use std::path::Path;

use serde::Deserialize;

use super::catalog::Catalog;
use super::outcome::{Outcome, Status};
use super::pattern::{Pattern, suggestion};

/// Entry of the known-failures file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// ID of a check or requirement; may contain `*`.
    pub check: String,
    /// Part of the text of the failure. Other failures do not match.
    #[serde(rename = "match")]
    pub text: String,
    /// Reason for the failure.
    pub reason: String,
    /// Issue that tracks the failure.
    #[serde(default)]
    pub issue: Option<String>,
    /// Last day on which the entry is valid, `YYYY-MM-DD`.
    pub expires: toml::value::Datetime,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

/// Error of the known-failures file.
#[derive(Debug, thiserror::Error)]
pub enum KnownFailuresError {
    /// The file cannot be read.
    #[error("cannot read known-failures file {path}")]
    Read {
        /// Path of the file.
        path: String,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has unknown or missing keys.
    #[error("invalid known-failures file {path}")]
    Parse {
        /// Path of the file.
        path: String,
        /// Parse error.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The pattern of an entry matches nothing.
    #[error("known failure `{check}` matches no check and no requirement{suggestion}")]
    Unmatched {
        /// Pattern of the entry.
        check: String,
        /// Suggestion of a similar name.
        suggestion: String,
    },
    /// An entry has expired.
    #[error("known failure `{check}` expired on {expires}: fix the failure or renew the entry")]
    Expired {
        /// Pattern of the entry.
        check: String,
        /// Last valid day.
        expires: String,
    },
    /// A required text of an entry is empty.
    #[error("known failure `{check}`: `{field}` is empty")]
    Empty {
        /// Pattern of the entry.
        check: String,
        /// Name of the field.
        field: &'static str,
    },
}

/// Entries of a known-failures file.
#[derive(Clone, Debug, Default)]
pub struct KnownFailures {
    /// Entries in the order of the file.
    pub entries: Vec<Entry>,
}

impl KnownFailures {
    /// Reads a file and validates every entry. `today` is `YYYY-MM-DD`.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if the file or an entry is invalid.
    pub fn load(
        path: &Path,
        catalog: &Catalog,
        today: &str,
    ) -> Result<KnownFailures, KnownFailuresError> {
        let path_text = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| KnownFailuresError::Read {
            path: path_text.clone(),
            source,
        })?;
        let file: File = toml::from_str(&text).map_err(|source| KnownFailuresError::Parse {
            path: path_text,
            source: Box::new(source),
        })?;
        let known_failures = KnownFailures {
            entries: file.known,
        };
        known_failures.validate(catalog, today)?;
        Ok(known_failures)
    }

    fn validate(&self, catalog: &Catalog, today: &str) -> Result<(), KnownFailuresError> {
        let names = || catalog.names().chain(catalog.monitors.iter().copied());
        for entry in &self.entries {
            let check = entry.check.clone();
            let pattern = Pattern(check.clone());
            if !names().any(|name| pattern.matches_id(name)) {
                let suggestion = suggestion(&check, names());
                return Err(KnownFailuresError::Unmatched { check, suggestion });
            }
            for (field, text) in [("match", &entry.text), ("reason", &entry.reason)] {
                if text.trim().is_empty() {
                    return Err(KnownFailuresError::Empty { check, field });
                }
            }
            let expires = entry.expires.to_string();
            if expires.get(..10).unwrap_or_default() < today {
                return Err(KnownFailuresError::Expired { check, expires });
            }
        }
        Ok(())
    }

    /// Marks failures that match an entry as `xfail`, and passed checks of unused entries as
    /// `xpass`.
    pub fn apply(&self, outcomes: &mut [Outcome]) {
        let mut used = vec![false; self.entries.len()];
        for outcome in outcomes.iter_mut() {
            self.mark_expected_failure(outcome, &mut used);
        }
        for (entry, used) in self.entries.iter().zip(used) {
            if !used {
                mark_unexpected_passes(entry, outcomes);
            }
        }
    }

    /// Marks an outcome as `xfail` if every violation matches an entry.
    fn mark_expected_failure(&self, outcome: &mut Outcome, used: &mut [bool]) {
        if !matches!(
            outcome.status,
            Status::Fail | Status::Warn | Status::Unstable
        ) {
            return;
        }
        let (mut all_known, mut reason) = (true, None);
        for violation in &outcome.violations {
            let text = format!("{}: {}", violation.description, violation.actual);
            let matching = self.entries.iter().zip(used.iter_mut()).find(|(entry, _)| {
                let pattern = Pattern(entry.check.clone());
                let id_matches =
                    pattern.matches_id(&outcome.id) || pattern.matches_id(violation.requirement.id);
                id_matches && text.contains(&entry.text)
            });
            match matching {
                Some((entry, used)) => {
                    *used = true;
                    reason = Some(entry.reason.clone());
                }
                None => all_known = false,
            }
        }
        if all_known && !outcome.violations.is_empty() {
            outcome.status = Status::Xfail;
            outcome.reason = reason;
        }
    }
}

/// Marks the passed checks that an unused entry names as `xpass`.
fn mark_unexpected_passes(entry: &Entry, outcomes: &mut [Outcome]) {
    let pattern = Pattern(entry.check.clone());
    let named = outcomes.iter_mut().filter(|outcome| {
        pattern.matches_id(&outcome.id)
            || outcome
                .covers
                .iter()
                .any(|covered| pattern.matches_id(covered.id))
    });
    for outcome in named.filter(|outcome| outcome.status == Status::Pass) {
        outcome.status = Status::Xpass;
        outcome.reason = Some(format!(
            "the known failure `{}` did not fail with {:?}: remove it from the file",
            entry.check, entry.text
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::meta::CheckMeta;
    use crate::check::outcome::Violation;
    use crate::check::side::Side;
    use crate::spec::requirements as req;

    static CHECK: CheckMeta = CheckMeta {
        id: "wire/unknown-command",
        covers: &[&req::HOST_WIRE_001],
        budget_s: 1,
        slow: false,
        file: "f.rs",
        line: 1,
    };

    fn catalog() -> Catalog {
        Catalog {
            side: Side::Host,
            checks: vec![&CHECK],
            monitors: Vec::new(),
        }
    }

    fn known(check: &str, text: &str) -> KnownFailures {
        let file = format!(
            "[[known]]\ncheck = \"{check}\"\nmatch = \"{text}\"\nreason = \"r\"\nexpires = 2030-01-01\n"
        );
        KnownFailures {
            entries: toml::from_str::<File>(&file).unwrap().known,
        }
    }

    fn failed(actual: &str) -> Outcome {
        let mut outcome = Outcome::new("wire/a", &[&req::HOST_WIRE_004], Status::Fail);
        outcome.violations.push(Violation {
            requirement: &req::HOST_WIRE_004,
            description: "empty payload".into(),
            expected: vec![],
            actual: actual.into(),
            source: String::new(),
            at: Default::default(),
            culprit_frame: None,
            stalled: None,
        });
        outcome
    }

    fn status_after(known: &KnownFailures, outcome: Outcome) -> Status {
        let mut outcomes = [outcome];
        known.apply(&mut outcomes);
        outcomes[0].status
    }

    #[test]
    fn only_the_matching_failure_is_expected() {
        assert_eq!(
            status_after(&known("wire/a", "no reply"), failed("no reply within 5 s")),
            Status::Xfail
        );
        assert_eq!(
            status_after(
                &known("HOST-WIRE-*", "no reply"),
                failed("no reply within 5 s")
            ),
            Status::Xfail
        );
        assert_eq!(
            status_after(&known("wire/a", "no reply"), failed("RUNNING")),
            Status::Fail
        );
        assert_eq!(
            status_after(&known("wire/b", "no reply"), failed("no reply")),
            Status::Fail
        );
    }

    #[test]
    fn known_failure_that_passes_is_unexpected() {
        let pass = Outcome::new("wire/a", &[&req::HOST_WIRE_004], Status::Pass);
        assert_eq!(
            status_after(&known("wire/a", "x"), pass.clone()),
            Status::Xpass
        );
        assert_eq!(
            status_after(&known("HOST-WIRE-004", "x"), pass.clone()),
            Status::Xpass
        );
        let not_run = Outcome {
            status: Status::NotRun,
            ..pass
        };
        assert_eq!(status_after(&known("wire/a", "x"), not_run), Status::NotRun);
    }

    #[test]
    fn rejects_unmatched_expired_and_empty_entries() {
        let validated = |known: KnownFailures, today| {
            known
                .validate(&catalog(), today)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            validated(known("wire/unknown-command", "x"), "2029-12-31"),
            Ok(())
        );
        let misspelled = validated(known("wire/unknown-comand", "x"), "2029-12-31").unwrap_err();
        assert!(misspelled.contains("wire/unknown-command"), "{misspelled}");
        let expired = validated(known("HOST-WIRE-001", "x"), "2030-01-02").unwrap_err();
        assert!(expired.contains("expired"), "{expired}");
        assert!(validated(known("HOST-WIRE-001", " "), "2029-12-31").is_err());
        assert!(toml::from_str::<File>("[[known]]\nchek = \"a\"").is_err());
    }
}
