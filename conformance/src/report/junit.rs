//! JUnit XML form of the report, for CI systems: one test case per check.

use std::fmt::Write as _;

use super::{CheckResult, Report};
use crate::check::outcome::Status;

/// Maximum output of one test case; CI systems reject or truncate longer output.
const MAX_OUTPUT_CHARS: usize = 20_000;

/// Renders the report as JUnit XML.
pub fn render(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let count = |wanted: &dyn Fn(Status) -> bool| {
        report
            .checks
            .iter()
            .filter(|check| wanted(check.status))
            .count()
    };
    let attributes = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\"",
        report.checks.len() + usize::from(report.error.is_some()),
        count(&is_failure),
        count(&is_error) + usize::from(report.error.is_some()),
        count(&is_skipped),
        seconds(report.run.duration_ms),
    );
    // Writing to a string cannot fail.
    let _ = writeln!(xml, "<testsuites name=\"berth-conformance\" {attributes}>");
    let name = escape(&report.target.name);
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" timestamp=\"{}\" {attributes}>",
        escape(&report.run.started_at)
    );
    if let Some(error) = &report.error {
        let message = escape(error);
        let _ = writeln!(xml, "    <testcase classname=\"suite\" name=\"run\">");
        let _ = writeln!(xml, "      <error message=\"{message}\"/>\n    </testcase>");
    }
    for check in &report.checks {
        test_case(&mut xml, check);
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

fn test_case(xml: &mut String, check: &CheckResult) {
    let name = check
        .id
        .split_once('/')
        .map_or(check.id.as_str(), |(_, name)| name);
    let _ = writeln!(
        xml,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\">",
        escape(&check.section),
        escape(name),
        seconds(check.duration_ms)
    );
    let reason = check.reason.as_deref().unwrap_or_default();
    let summary = summary(check);
    let details = escape(&truncated(&details(check)));
    match check.status {
        status if is_failure(status) => {
            let message = if summary.is_empty() { reason } else { &summary };
            let message = escape(message);
            let _ = writeln!(
                xml,
                "      <failure message=\"{message}\">{details}</failure>"
            );
        }
        status if is_error(status) => {
            let message = escape(&format!("{status}: {reason}"));
            let _ = writeln!(xml, "      <error message=\"{message}\">{details}</error>");
        }
        Status::Xfail => {
            let message = escape(&format!("known failure: {summary}"));
            let _ = writeln!(xml, "      <skipped message=\"{message}\"/>");
        }
        status if is_skipped(status) => {
            let message = escape(&format!("{status}: {reason}"));
            let _ = writeln!(xml, "      <skipped message=\"{message}\"/>");
        }
        _ => {}
    }
    if check.status == Status::Warn {
        let _ = writeln!(xml, "      <system-out>{details}</system-out>");
    }
    if let Some(log) = check
        .log
        .as_deref()
        .filter(|_| check.status != Status::Pass)
    {
        let _ = writeln!(
            xml,
            "      <system-err>{}</system-err>",
            escape(&truncated(log))
        );
    }
    let _ = writeln!(xml, "    </testcase>");
}

fn is_failure(status: Status) -> bool {
    matches!(status, Status::Fail | Status::Xpass)
}

fn is_error(status: Status) -> bool {
    matches!(
        status,
        Status::Error | Status::Inconclusive | Status::Unstable
    )
}

fn is_skipped(status: Status) -> bool {
    matches!(
        status,
        Status::Xfail | Status::Unsupported | Status::NotTestable | Status::NotRun
    )
}

fn summary(check: &CheckResult) -> String {
    match check.violations.first() {
        Some(first) => format!(
            "{} {}: {}",
            first.requirement, first.description, first.actual
        ),
        None => String::new(),
    }
}

fn details(check: &CheckResult) -> String {
    let mut text = String::new();
    for violation in &check.violations {
        let _ = writeln!(
            text,
            "{} {}\n  {}",
            violation.level, violation.requirement, violation.sentence
        );
        let _ = writeln!(text, "  {}", violation.description);
        let _ = writeln!(text, "  expected  {}", violation.expected.join(" | "));
        let _ = writeln!(
            text,
            "  actual    {}\n  at {}",
            violation.actual, violation.source
        );
    }
    for line in &check.wire {
        let mark = if line.culprit { " <- here" } else { "" };
        let _ = writeln!(
            text,
            "  {:+.1} ms {} {} {}{mark}",
            line.at_ms, line.direction, line.kind, line.payload
        );
    }
    let _ = writeln!(text, "rerun: {}", check.rerun);
    text
}

fn truncated(text: &str) -> String {
    crate::wire::response::shortened(text, MAX_OUTPUT_CHARS)
}

fn seconds(duration_ms: u64) -> String {
    format!("{}.{:03}", duration_ms / 1000, duration_ms % 1000)
}

/// Escapes text for attributes and content. Characters that XML 1.0 forbids become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\r' => escaped.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
