//! The sections: every table of checks, in the order in which reports show them.

pub mod wire;

use crate::check::Check;

/// All tables. A section that is missing here does not exist.
pub const TABLES: &[&[Check]] = &[wire::CHECKS];

/// All checks.
pub fn all() -> impl Iterator<Item = &'static Check> {
    TABLES.iter().flat_map(|table| table.iter())
}
