//! The report as JSON, by the published schema.

use super::Report;

/// The JSON Schema of the report.
pub const SCHEMA: &str = include_str!("../../report.schema.json");

/// The report as JSON.
pub fn render(report: &Report) -> String {
    // Every map has text keys and every number is finite, so that this cannot fail.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}
