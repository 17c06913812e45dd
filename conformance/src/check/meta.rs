//! Declaration that checks of hosts and of schedulers share.

use crate::spec::requirements::{Level, Profile, Requirement};

/// Declaration of a check, on either side.
#[derive(Clone, Copy)]
pub struct CheckMeta {
    /// `section/name`, unique.
    pub id: &'static str,
    /// Requirements that every run of the body makes a claim about.
    pub covers: &'static [&'static Requirement],
    /// Maximum run time. Not a deadline of the specification.
    pub budget_s: u64,
    /// Whether the check takes more than 30 s by design, so that it runs only with `--slow`.
    pub slow: bool,
    /// File of the table entry.
    pub file: &'static str,
    /// Line of the table entry.
    pub line: u32,
}

impl CheckMeta {
    /// Returns the part of the id before the slash.
    pub fn section(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }

    /// Returns the strictest level of the covered requirements.
    pub fn level(&self) -> Level {
        self.covers
            .iter()
            .map(|requirement| requirement.level)
            .min()
            .unwrap_or(Level::May)
    }

    /// Returns whether the check covers a requirement of one of the profiles.
    pub fn belongs_to(&self, profiles: &[Profile]) -> bool {
        self.covers
            .iter()
            .all(|requirement| profiles.contains(&requirement.profile))
    }
}

impl std::fmt::Debug for CheckMeta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}
