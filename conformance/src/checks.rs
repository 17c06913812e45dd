//! The sections: every table of checks, in the order in which reports show them.

pub mod beat;
pub mod credentials;
pub mod down;
pub mod ext;
pub mod http;
pub mod img;
pub mod json;
mod pull;
pub mod pulling;
pub mod res;
pub mod resil;
pub mod start;
pub mod status;
pub mod stop;
pub mod svc;
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
    svc::CHECKS,
    img::CHECKS,
    pulling::CHECKS,
    credentials::CHECKS,
    http::CHECKS,
    res::CHECKS,
    resil::CHECKS,
    down::CHECKS,
    ext::CHECKS,
];

/// All checks.
pub fn all() -> impl Iterator<Item = &'static Check> {
    TABLES.iter().flat_map(|table| table.iter())
}
