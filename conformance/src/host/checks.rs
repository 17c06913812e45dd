//! Checks for hosts: the tables of all sections, in the order of reports.

mod admission;
pub mod allow_lists;
pub mod credentials;
pub mod egress;
pub mod extensions;
pub mod heartbeat;
pub mod http;
pub mod http_messages;
pub mod http_names;
pub mod image_policies;
pub mod image_progress;
pub mod image_references;
mod image_support;
pub mod image_verification;
pub mod images;
pub mod imports;
pub mod json;
pub mod json_effects;
pub mod json_replies;
pub mod outages;
pub mod resilience;
pub mod resources;
pub mod security;
pub mod service_components;
pub mod service_restarts;
pub mod services;
pub mod shutdown;
pub mod start;
pub mod start_accepted;
pub mod start_failures;
pub mod start_taken;
pub mod status;
pub mod stop;
pub mod stop_guests;
pub mod stop_starts;
mod sweep;
pub mod vectors;
pub mod volumes;
pub mod wire;
pub mod wire_ids;
pub mod wire_refusals;
pub mod wire_replies;
pub mod wire_sizes;
pub mod workload_count;

use super::check::Check;
use crate::check::meta::CheckMeta;

/// All tables. A table that is not listed here is not part of the suite.
pub const TABLES: &[&[Check]] = &[
    wire::CHECKS,
    wire_refusals::CHECKS,
    wire_replies::CHECKS,
    wire_ids::CHECKS,
    wire_sizes::CHECKS,
    json::CHECKS,
    vectors::CHECKS,
    json_replies::CHECKS,
    json_effects::CHECKS,
    heartbeat::CHECKS,
    workload_count::CHECKS,
    start::CHECKS,
    start_accepted::CHECKS,
    start_taken::CHECKS,
    start_failures::CHECKS,
    status::CHECKS,
    stop::CHECKS,
    stop_starts::CHECKS,
    stop_guests::CHECKS,
    services::CHECKS,
    service_restarts::CHECKS,
    service_components::CHECKS,
    images::CHECKS,
    image_references::CHECKS,
    image_verification::CHECKS,
    image_policies::CHECKS,
    image_progress::CHECKS,
    credentials::CHECKS,
    http::CHECKS,
    http_names::CHECKS,
    http_messages::CHECKS,
    resources::CHECKS,
    allow_lists::CHECKS,
    imports::CHECKS,
    volumes::CHECKS,
    egress::CHECKS,
    security::CHECKS,
    outages::CHECKS,
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
