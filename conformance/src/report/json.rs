//! JSON form of the report, described by a published JSON Schema.

use super::Report;

/// JSON Schema of the report.
pub const SCHEMA: &str = include_str!("../../report.schema.json");

/// Renders the report as JSON.
pub fn render(report: &Report) -> String {
    // Cannot fail: every map has string keys.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}
