//! Checks for hosts: the tables of all sections, in the order of reports.

pub mod credentials;
pub mod egress;
pub mod extensions;
pub mod heartbeat;
pub mod http;
pub mod image_progress;
mod image_support;
pub mod images;
pub mod json;
pub mod resilience;
pub mod resources;
pub mod services;
pub mod shutdown;
pub mod start;
pub mod status;
pub mod stop;
pub mod wire;

use super::check::Check;
use crate::check::meta::CheckMeta;

/// All tables. A table that is not listed here is not part of the suite.
pub const TABLES: &[&[Check]] = &[
    wire::CHECKS,
    json::CHECKS,
    heartbeat::CHECKS,
    start::CHECKS,
    status::CHECKS,
    stop::CHECKS,
    services::CHECKS,
    images::CHECKS,
    image_progress::CHECKS,
    credentials::CHECKS,
    http::CHECKS,
    resources::CHECKS,
    egress::CHECKS,
    resilience::CHECKS,
    shutdown::CHECKS,
    extensions::CHECKS,
];

/// Returns all checks.
pub fn all() -> impl Iterator<Item = &'static Check> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Returns the metadata of all checks, in the order of the tables.
pub fn metas() -> Vec<&'static CheckMeta> {
    all().map(|check| &check.meta).collect()
}
