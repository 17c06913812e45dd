//! The known-failures file: strict, pinned to a text, with a reason and an end. Pure but for reading it.

use std::path::Path;

use serde::Deserialize;

use super::catalog::Catalog;
use super::outcome::{Outcome, Status};
use super::pattern::{Pattern, suggestion};

/// One entry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The id of a check or of a requirement; `*` is allowed.
    pub check: String,
    /// Part of the text of the failure. Another failure is not excused.
    #[serde(rename = "match")]
    pub text: String,
    /// Why it fails.
    pub reason: String,
    /// Where it is being dealt with.
    #[serde(default)]
    pub issue: Option<String>,
    /// The last day of its life, `YYYY-MM-DD`.
    pub expires: toml::value::Datetime,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum KnownFailuresError {
    /// It cannot be read.
    #[error("the known-failures file {path} cannot be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the known-failures file {path} is not valid")]
    Parse {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An entry names nothing that there is.
    #[error("known failure `{check}` matches no check and no requirement{suggestion}")]
    Unmatched {
        /// The pattern.
        check: String,
        /// The near spelling.
        suggestion: String,
    },
    /// An entry is past its day.
    #[error("known failure `{check}` expired on {expires}: fix it or renew it")]
    Expired {
        /// The pattern.
        check: String,
        /// The day.
        expires: String,
    },
    /// An entry excuses everything or says nothing.
    #[error("known failure `{check}`: `{field}` is empty")]
    Empty {
        /// The pattern.
        check: String,
        /// The field.
        field: &'static str,
    },
}

/// The entries of a file.
#[derive(Clone, Debug, Default)]
pub struct KnownFailures {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

impl KnownFailures {
    /// Reads a file and checks every entry. `today` is `YYYY-MM-DD`.
    ///
    /// # Errors
    /// The file or an entry is not valid.
    pub fn load(
        path: &Path,
        catalog: &Catalog,
        today: &str,
    ) -> Result<KnownFailures, KnownFailuresError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| KnownFailuresError::Read {
            path: shown.clone(),
            source,
        })?;
        let file: File = toml::from_str(&text).map_err(|source| KnownFailuresError::Parse {
            path: shown,
            source: Box::new(source),
        })?;
        let known = KnownFailures {
            entries: file.known,
        };
        known.validate(catalog, today)?;
        Ok(known)
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

    /// Turns failures that are known into `xfail`, and passes that should have failed into `xpass`.
    pub fn apply(&self, outcomes: &mut [Outcome]) {
        let mut used = vec![false; self.entries.len()];
        for outcome in outcomes.iter_mut() {
            self.excuse(outcome, &mut used);
        }
        for (entry, used) in self.entries.iter().zip(used) {
            if !used {
                stale(entry, outcomes);
            }
        }
    }

    fn excuse(&self, outcome: &mut Outcome, used: &mut [bool]) {
        if !matches!(
            outcome.status,
            Status::Fail | Status::Warn | Status::Unstable
        ) {
            return;
        }
        let (mut all_excused, mut reason) = (true, None);
        for violation in &outcome.violations {
            let text = format!("{}: {}", violation.what, violation.actual);
            let excused = self.entries.iter().zip(used.iter_mut()).find(|(entry, _)| {
                let pattern = Pattern(entry.check.clone());
                let named =
                    pattern.matches_id(&outcome.id) || pattern.matches_id(violation.requirement.id);
                named && text.contains(&entry.text)
            });
            match excused {
                Some((entry, used)) => {
                    *used = true;
                    reason = Some(entry.reason.clone());
                }
                None => all_excused = false,
            }
        }
        if all_excused && !outcome.violations.is_empty() {
            outcome.status = Status::Xfail;
            outcome.reason = reason;
        }
    }
}

/// An entry that excused nothing although what it names ran.
fn stale(entry: &Entry, outcomes: &mut [Outcome]) {
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
            "the known failure `{}` did not fail with {:?}: take it out of the file",
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
        let mut outcome = Outcome::of("wire/a", &[&req::HOST_WIRE_004], Status::Fail);
        outcome.violations.push(Violation {
            requirement: &req::HOST_WIRE_004,
            what: "empty payload".into(),
            acceptable: vec![],
            actual: actual.into(),
            source: String::new(),
            at: Default::default(),
            culprit_frame: None,
            stalled: None,
        });
        outcome
    }

    fn after(known: &KnownFailures, outcome: Outcome) -> Status {
        let mut outcomes = [outcome];
        known.apply(&mut outcomes);
        outcomes[0].status
    }

    #[test]
    fn only_the_pinned_failure_is_excused() {
        assert_eq!(
            after(&known("wire/a", "no reply"), failed("no reply within 5 s")),
            Status::Xfail
        );
        assert_eq!(
            after(
                &known("HOST-WIRE-*", "no reply"),
                failed("no reply within 5 s")
            ),
            Status::Xfail
        );
        assert_eq!(
            after(&known("wire/a", "no reply"), failed("RUNNING")),
            Status::Fail
        );
        assert_eq!(
            after(&known("wire/b", "no reply"), failed("no reply")),
            Status::Fail
        );
    }

    #[test]
    fn a_known_failure_that_passes_fails_the_run() {
        let pass = Outcome::of("wire/a", &[&req::HOST_WIRE_004], Status::Pass);
        assert_eq!(after(&known("wire/a", "x"), pass.clone()), Status::Xpass);
        assert_eq!(
            after(&known("HOST-WIRE-004", "x"), pass.clone()),
            Status::Xpass
        );
        let not_run = Outcome {
            status: Status::NotRun,
            ..pass
        };
        assert_eq!(after(&known("wire/a", "x"), not_run), Status::NotRun);
    }

    #[test]
    fn entries_must_name_something_and_be_alive() {
        let verdict = |known: KnownFailures, today| {
            known
                .validate(&catalog(), today)
                .map_err(|bad| bad.to_string())
        };
        assert_eq!(
            verdict(known("wire/unknown-command", "x"), "2029-12-31"),
            Ok(())
        );
        let near = verdict(known("wire/unknown-comand", "x"), "2029-12-31").unwrap_err();
        assert!(near.contains("wire/unknown-command"), "{near}");
        let expired = verdict(known("HOST-WIRE-001", "x"), "2030-01-02").unwrap_err();
        assert!(expired.contains("expired"), "{expired}");
        assert!(verdict(known("HOST-WIRE-001", " "), "2029-12-31").is_err());
        assert!(toml::from_str::<File>("[[known]]\nchek = \"a\"").is_err());
    }
}
