//! A deliberate violation of the specification in an independent peer.

use std::fmt;
use std::path::Path;

use serde::Deserialize;

use super::IndependentPeersError;

/// Directory of the independent peers in the repository.
pub(super) const DIR: &str = "conformance/independent";

/// The side of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The independent host.
    Host,
    /// The independent scheduler.
    Scheduler,
}

impl Side {
    /// Returns the subcommand of the suite, which is also the directory of the peer.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Scheduler => "scheduler",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "independent {}", self.name())
    }
}

/// One violation of the list.
#[derive(Clone, Debug, Deserialize)]
pub struct Violation {
    /// Name of the violation, the value of `--violation`.
    pub id: String,
    /// Requirement that it violates.
    pub requirement: String,
    /// Reason why no check catches it; absent if a check has to.
    pub slips: Option<String>,
}

impl Violation {
    /// Returns the filter that selects the section of the requirement: `HOST-WIRE-*`.
    pub(super) fn section(&self) -> String {
        let area = self
            .requirement
            .rsplit_once('-')
            .map_or("", |(area, _)| area);
        format!("{area}-*")
    }
}

/// Reads the violations of one side.
pub(super) fn read(root: &Path, side: Side) -> Result<Vec<Violation>, IndependentPeersError> {
    #[derive(Deserialize)]
    struct List {
        violation: Vec<Violation>,
    }
    let path = root
        .join(DIR)
        .join(format!("{}-violations.toml", side.name()));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(IndependentPeersError::Read { path, source }),
    };
    match toml::from_str::<List>(&text) {
        Ok(list) => Ok(list.violation),
        Err(source) => Err(IndependentPeersError::Parse { path, source }),
    }
}
