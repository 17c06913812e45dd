//! Catalog of the checks and monitors of one side.

use super::meta::CheckMeta;
use super::side::Side;

/// Checks and monitors of one side.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Side that the checks judge.
    pub side: Side,
    /// Declarations of all checks, in the order of the tables.
    pub checks: Vec<&'static CheckMeta>,
    /// IDs of the monitors that judge every frame.
    pub monitors: Vec<&'static str>,
}

impl Catalog {
    /// Returns the ids of all checks and requirements.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let requirements = self.side.requirements().map(|item| item.id);
        self.checks.iter().map(|check| check.id).chain(requirements)
    }
}
