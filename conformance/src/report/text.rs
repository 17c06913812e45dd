//! Text form of the report: one symbol per check, details of each failure, and the verdict.

use std::fmt::Write as _;

use super::format::{Style, Verbosity};
use super::{CheckResult, Counts, ProfileCounts, Report, RequirementResult, ViolationResult};
use crate::check::outcome::Status;

/// Maximum number of violations per check; the JSON form has all.
const MAX_VIOLATIONS: usize = 6;
/// Symbols on one line.
const SYMBOLS_PER_LINE: usize = 40;
/// Maximum number of ids in a list of checks with the same reason. A longer list shows counts by
/// section instead.
const MAX_LISTED_IDS: usize = 12;
/// Maximum number of log lines per failure.
const LOG_LINES: usize = 6;

/// Second part of the requirement ids of a section, where it differs from the name of the section.
const REQUIREMENT_CODES: &[(&str, &str)] = &[
    ("continuity", "CONT"),
    ("encoding", "ENC"),
    ("extensions", "EXT"),
    ("heartbeat", "BEAT"),
    ("host-failure", "FAIL"),
    ("images", "IMG"),
    ("manifests", "CRD"),
    ("placement", "PLACE"),
    ("references", "REF"),
    ("registration", "REG"),
    ("replicas", "SCALE"),
    ("resilience", "RESIL"),
    ("resources", "RES"),
    ("rollout", "ROLL"),
    ("security", "SEC"),
    ("services", "SVC"),
    ("shutdown", "DOWN"),
];

/// Renders the report as text. Results of writes are ignored: writing to a string cannot fail.
pub fn render(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    header(&mut out, report, *style);
    if let Some(error) = &report.error {
        let _ = writeln!(
            out,
            "{} {}\n",
            style.status(Status::Error, "!"),
            clean(error)
        );
    }
    for note in &report.notes {
        let _ = writeln!(
            out,
            "{} {}\n",
            style.status(Status::Fail, "note"),
            clean(note)
        );
    }
    if style.verbosity != Verbosity::Quiet {
        sections(&mut out, report, *style);
    }
    if style.verbosity == Verbosity::Verbose {
        for check in &report.checks {
            let _ = writeln!(out, "{}", one_line(check, *style));
        }
        out.push('\n');
    }
    let quiet = style.verbosity == Verbosity::Quiet;
    let is_detailed =
        |check: &&CheckResult| has_details(check) && !(quiet && check.status == Status::Warn);
    for check in report.checks.iter().filter(is_detailed) {
        details(&mut out, check, *style);
    }
    if !quiet {
        unmeasured_checks(&mut out, report, *style);
    }
    summary(&mut out, report, *style);
    out
}

fn header(out: &mut String, report: &Report, style: Style) {
    let target = &report.target;
    let version = target
        .version
        .as_deref()
        .map(|version| format!(" {version}"))
        .unwrap_or_default();
    let hash: String = report.suite.requirements_sha256.chars().take(8).collect();
    let name = format!("{} {}", report.suite.name, report.suite.version);
    let _ = writeln!(
        out,
        "{} · {} requirements ({hash}) · target {} · broker {} · seed {}",
        style.bold(&name),
        report.suite.requirements,
        clean(&format!("{}{version}", target.name)),
        report.environment.broker,
        report.run.seed,
    );
    if report.environment.rtt_ms > 0.0 {
        let _ = writeln!(
            out,
            "doctor  {}  round trip {:.1} ms · patience {:.0} ms · host {}",
            style.status(Status::Pass, "ok"),
            report.environment.rtt_ms,
            report.environment.patience_ms,
            clean(target.host_id.as_deref().unwrap_or("?")),
        );
    }
    out.push('\n');
}

fn sections(out: &mut String, report: &Report, style: Style) {
    let mut names: Vec<&str> = Vec::new();
    for check in &report.checks {
        if !names.contains(&check.section.as_str()) {
            names.push(&check.section);
        }
    }
    for name in names {
        let checks: Vec<&CheckResult> = report
            .checks
            .iter()
            .filter(|check| check.section == name)
            .collect();
        if checks.iter().all(|check| check.status == Status::NotRun) {
            continue;
        }
        let lines: Vec<&[&CheckResult]> = checks.chunks(SYMBOLS_PER_LINE).collect();
        for (index, line) in lines.iter().enumerate() {
            let symbols: String = line
                .iter()
                .map(|check| style.status(check.status, symbol(check.status)))
                .collect();
            let title = if index == 0 {
                name.to_uppercase()
            } else {
                String::new()
            };
            let padding = " ".repeat(SYMBOLS_PER_LINE.saturating_sub(line.len()));
            let last = index + 1 == lines.len();
            let counts = if last {
                section_counts(report, name)
            } else {
                String::new()
            };
            let row = format!(" {title:<13} {symbols}{padding}  {counts}");
            let _ = writeln!(out, "{}", row.trim_end());
        }
    }
    if !report.checks.is_empty() {
        out.push('\n');
    }
}

fn section_counts(report: &Report, section: &str) -> String {
    let code = REQUIREMENT_CODES
        .iter()
        .find(|(name, _)| *name == section)
        .map_or(section, |(_, code)| *code);
    let of_section = |item: &&RequirementResult| {
        item.excluded.is_none()
            && item
                .id
                .split('-')
                .nth(1)
                .is_some_and(|part| part.eq_ignore_ascii_case(code))
    };
    let count = |level: &str| {
        let items = report
            .requirements
            .iter()
            .filter(of_section)
            .filter(|item| item.level == level);
        items.fold(Counts::default(), |counts, item| {
            crate::report::add(counts, item.status)
        })
    };
    [("must", count("MUST")), ("should", count("SHOULD"))]
        .iter()
        .filter(|(_, counts)| counts.total > 0)
        .map(|(level, counts)| {
            format!(
                "{:<12}",
                format!("{}/{} {level}", counts.passed, counts.total)
            )
        })
        .collect()
}

/// Returns the character that stands for a status.
pub fn symbol(status: Status) -> &'static str {
    match status {
        Status::Pass => "✓",
        Status::Fail => "✗",
        Status::Warn => "!",
        Status::Xfail => "x",
        Status::Xpass => "X",
        Status::Unstable => "~",
        Status::Unsupported => "○",
        Status::NotTestable => "?",
        Status::Inconclusive => "%",
        Status::Error => "E",
        Status::NotRun => "·",
    }
}

/// Renders a check on one line.
pub fn one_line(check: &CheckResult, style: Style) -> String {
    let status = style.status(check.status, &format!("{:<12}", check.status.name()));
    let reason = check
        .reason
        .as_deref()
        .map(|reason| format!("  {}", clean(reason)));
    format!(
        "{status} {:<34} {:>6} ms{}",
        check.id,
        check.duration_ms,
        reason.unwrap_or_default()
    )
}

/// Returns whether a check is shown with details.
fn has_details(check: &CheckResult) -> bool {
    match check.status {
        Status::Fail
        | Status::Warn
        | Status::Xpass
        | Status::Unstable
        | Status::Inconclusive
        | Status::Error => true,
        // The violated precondition may appear in no other check.
        Status::NotTestable => !check.violations.is_empty(),
        // Only `--wire` records the traffic of a passing check.
        Status::Pass => !check.wire.is_empty(),
        Status::Xfail | Status::Unsupported | Status::NotRun => false,
    }
}

fn details(out: &mut String, check: &CheckResult, style: Style) {
    let mark = style.status(check.status, symbol(check.status));
    let result = format!("{} · {} ms", check.status.name(), check.duration_ms);
    let _ = writeln!(
        out,
        "{mark} {:<58} {}",
        style.bold(&check.id),
        style.dim(&result)
    );
    if let Some(reason) = &check.reason {
        let _ = writeln!(out, "  {}", indented(&clean(reason), 2));
    }
    let mut previous = "";
    for item in check.violations.iter().take(MAX_VIOLATIONS) {
        violation(out, item, item.requirement != previous, style);
        previous = item.requirement;
    }
    let more = check.violations.len().saturating_sub(MAX_VIOLATIONS);
    if more > 0 {
        let _ = writeln!(out, "    and {more} more in the JSON report");
    }
    wire(out, check, style);
    let log = check.log.as_deref().filter(|log| !log.trim().is_empty());
    if let (Some(log), Status::Error | Status::Fail) = (log, check.status) {
        let lines: Vec<&str> = log.lines().collect();
        let _ = writeln!(out, "  log");
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            let _ = writeln!(
                out,
                "     {}",
                clean(&crate::wire::response::shortened(line, 160))
            );
        }
    }
    if let Some(first) = check.violations.first() {
        let _ = writeln!(out, "  why   {}", first.why);
    }
    let explain = check.violations.first().map(|first| {
        format!(
            " · {} explain {}",
            env!("CARGO_PKG_NAME"),
            first.requirement
        )
    });
    let _ = writeln!(
        out,
        "  rerun {}{}\n",
        clean(&check.rerun),
        explain.unwrap_or_default()
    );
}

fn violation(out: &mut String, item: &ViolationResult, with_sentence: bool, style: Style) {
    if with_sentence {
        let id = style.bold(item.requirement);
        let _ = writeln!(out, "  {id} {}  {}", item.level, item.sentence);
    }
    // A description that is also the only expected result is shown once.
    if item.expected != [item.description.as_str()] {
        let _ = writeln!(out, "    {}", indented(&clean(&item.description), 4));
    }
    for (index, expected) in item.expected.iter().enumerate() {
        let label = if index == 0 { "expected" } else { "      or" };
        let _ = writeln!(out, "      {label}  {}", indented(&clean(expected), 16));
    }
    let actual = style.status(Status::Fail, &indented(&clean(&item.actual), 16));
    let _ = writeln!(out, "      actual    {actual}");
}

fn wire(out: &mut String, check: &CheckResult, style: Style) {
    if check.wire.is_empty() {
        return;
    }
    let _ = writeln!(out, "  wire");
    for line in &check.wire {
        let mark = if line.culprit {
            style.status(Status::Fail, "  ✗ here")
        } else {
            String::new()
        };
        let at = format!("{:+.1} ms", line.at_ms);
        let _ = writeln!(
            out,
            "    {at:>11}  {}  {:<16} {}{mark}",
            line.direction,
            clean(&line.kind),
            clean(&line.payload)
        );
    }
}

/// Lists checks without a result, known failures, and checks that did not run.
fn unmeasured_checks(out: &mut String, report: &Report, style: Style) {
    let listed = [
        (Status::NotTestable, "not testable"),
        (Status::Unsupported, "unsupported"),
        (Status::Xfail, "known failure"),
    ];
    let mut any = false;
    for (status, label) in listed {
        let label = style.status(status, &format!("{} {label}", symbol(status)));
        for (reason, checks) in by_reason(report, status, "") {
            any = true;
            let reason = clean(reason);
            match checks.as_slice() {
                [check] => {
                    let _ = writeln!(out, "{label}  {}  {reason}", check.id);
                }
                checks => {
                    let count = checks.len();
                    let _ = writeln!(out, "{label}  {count} checks  {reason}");
                    let _ = writeln!(out, "    {}", ids_or_counts(checks));
                }
            }
        }
    }
    for known in &report.known_failures {
        any = true;
        let issue = known
            .issue
            .as_deref()
            .map(|issue| format!(" ({issue})"))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "x known until {}  {}  {}{issue}",
            known.expires,
            clean(&known.check),
            clean(&known.reason)
        );
    }
    any |= not_run(out, report, style);
    if any {
        out.push('\n');
    }
}

/// Lists the checks that did not run by reason. Returns whether there are any.
fn not_run(out: &mut String, report: &Report, style: Style) -> bool {
    let reasons = by_reason(report, Status::NotRun, "not selected");
    for (reason, checks) in &reasons {
        let more = if checks.len() > MAX_LISTED_IDS {
            "; list all with --list-not-run"
        } else {
            ""
        };
        let text = format!(
            "· {} not run ({reason}): {}{more}",
            checks.len(),
            ids_or_counts(checks)
        );
        let _ = writeln!(out, "{}", style.dim(&text));
    }
    !reasons.is_empty()
}

/// Groups the checks with a status by reason, in the order of the report. `default` stands for a
/// missing reason.
fn by_reason<'r>(
    report: &'r Report,
    status: Status,
    default: &'r str,
) -> Vec<(&'r str, Vec<&'r CheckResult>)> {
    let mut reasons: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
    for check in report.with_status(status) {
        let reason = check.reason.as_deref().unwrap_or(default);
        match reasons.iter_mut().find(|(listed, _)| *listed == reason) {
            Some((_, checks)) => checks.push(check),
            None => reasons.push((reason, vec![check])),
        }
    }
    reasons
}

/// Lists the ids of the checks or, for many checks, the number of checks in each section.
fn ids_or_counts(checks: &[&CheckResult]) -> String {
    let names: Vec<String> = if checks.len() > MAX_LISTED_IDS {
        let mut sections: Vec<(&str, usize)> = Vec::new();
        for check in checks {
            match sections.iter_mut().find(|(name, _)| *name == check.section) {
                Some((_, count)) => *count += 1,
                None => sections.push((&check.section, 1)),
            }
        }
        let counts = sections.iter();
        counts
            .map(|(name, count)| format!("{count} of {name}"))
            .collect()
    } else {
        checks.iter().map(|check| check.id.clone()).collect()
    };
    names.join(", ")
}

fn summary(out: &mut String, report: &Report, style: Style) {
    let verdict = report.verdict.name().to_uppercase();
    let status = match report.exit_code {
        0 => Status::Pass,
        1 | 3 => Status::Fail,
        _ => Status::Inconclusive,
    };
    let mut parts: Vec<String> = Vec::new();
    for profile in report
        .profiles
        .iter()
        .filter(|profile| is_in_scope(report, profile))
    {
        let must = &profile.must;
        let unmeasured = unmeasured(report, profile.name);
        parts.push(format!(
            "{} {}/{} must{unmeasured}",
            profile.name, must.passed, must.total
        ));
    }
    let should = report
        .profiles
        .iter()
        .fold((0, 0), |(passed, total), profile| {
            (passed + profile.should.passed, total + profile.should.total)
        });
    if should.1 > 0 {
        parts.push(format!("should {}/{}", should.0, should.1));
    }
    match report.known_failures.len() {
        0 => {}
        1 => parts.push("1 known failure".to_owned()),
        count => parts.push(format!("{count} known failures")),
    }
    parts.push(format!("{:.1} s", report.run.duration_ms as f64 / 1000.0));
    let _ = writeln!(
        out,
        "{}  {}",
        style.status(status, &style.bold(&verdict)),
        parts.join(" · ")
    );
}

/// Returns whether the run selected checks of a profile.
fn is_in_scope(report: &Report, profile: &ProfileCounts) -> bool {
    report.run.filters.is_empty() || profile.must.passed + profile.must.failed > 0
}

/// Returns ` (2 not run, 1 not measured)`, or an empty string if every MUST was measured.
fn unmeasured(report: &Report, profile: &str) -> String {
    let missing: Vec<&RequirementResult> = report
        .requirements
        .iter()
        .filter(|item| item.profile == profile && item.level == "MUST" && item.excluded.is_none())
        .filter(|item| crate::report::add(Counts::default(), item.status).unmeasured > 0)
        .collect();
    let not_run = missing
        .iter()
        .filter(|item| item.status == Status::NotRun)
        .count();
    let parts = [
        (not_run, "not run"),
        (missing.len() - not_run, "not measured"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, label)| format!("{count} {label}"))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// Escapes control characters of untrusted text, so that it is harmless on a terminal.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => clean.push('\n'),
            '\t' => clean.push(' '),
            // Bidirectional overrides can make a line display as different text.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                clean.push('\u{fffd}');
            }
            control if control.is_control() => {
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(control));
            }
            other => clean.push(other),
        }
    }
    clean
}

fn indented(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}
