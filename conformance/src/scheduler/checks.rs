//! The sections: every table of scenarios, in the order in which reports show them.

use crate::scheduler::scenario::Scenario;

/// All tables. A section that is missing here does not exist.
pub const TABLES: &[&[Scenario]] = &[];

/// All scenarios.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    TABLES.iter().flat_map(|table| table.iter())
}
