//! The sections: every table of checks, in the order in which reports show them.

pub mod beat;
pub mod json;
pub mod start;
pub mod status;
pub mod stop;
pub mod wire;

use crate::check::Check;

/// All tables. A section that is missing here does not exist.
pub const TABLES: &[&[Check]] = &[
    wire::CHECKS,
    json::CHECKS,
    beat::CHECKS,
    start::CHECKS,
    status::CHECKS,
    stop::CHECKS,
];

/// All checks.
pub fn all() -> impl Iterator<Item = &'static Check> {
    TABLES.iter().flat_map(|table| table.iter())
}
