//! The declaration that checks of hosts and of schedulers share.

use crate::spec::requirements::{Level, Profile, Requirement};

/// What every check has, whichever side it judges.
#[derive(Clone, Copy)]
pub struct CheckMeta {
    /// `section/name`, unique.
    pub id: &'static str,
    /// Every requirement that the body claims something about, each time it runs.
    pub covers: &'static [&'static Requirement],
    /// How long the harness lets it run. Not a deadline of the specification.
    pub budget_s: u64,
    /// Longer than half a minute by nature: runs only with `--slow`.
    pub slow: bool,
    /// The file of the table entry.
    pub file: &'static str,
    /// The line of the table entry.
    pub line: u32,
}

impl CheckMeta {
    /// The part of the id before the slash.
    pub fn section(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }

    /// The strictest level among what it covers.
    pub fn level(&self) -> Level {
        self.covers
            .iter()
            .map(|requirement| requirement.level)
            .min()
            .unwrap_or(Level::May)
    }

    /// Whether it covers anything of one of the profiles.
    pub fn serves(&self, profiles: &[Profile]) -> bool {
        self.covers
            .iter()
            .any(|requirement| profiles.contains(&requirement.profile))
    }
}

impl std::fmt::Debug for CheckMeta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}
