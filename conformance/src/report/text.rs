//! The report for people: ticks, then each failure with all that is needed to mend it, then one word.

use std::fmt::Write as _;

use super::format::{Amount, Style};
use super::{CheckResult, ProfileSum, Report, RequirementResult, Sum, ViolationResult};
use crate::check::outcome::Status;

/// Violations shown of one check; the JSON report has all.
const MAX_VIOLATIONS: usize = 6;
/// Ticks on one line.
const TICKS: usize = 40;
/// Checks that were not run are shown by name up to so many.
const NAMES: usize = 12;
/// Log lines shown of one failure.
const LOG_LINES: usize = 6;

/// The whole report. Writing to a string cannot fail, so its results are not looked at.
pub fn render(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    header(&mut out, report, *style);
    if let Some(trouble) = &report.trouble {
        let _ = writeln!(
            out,
            "{} {}\n",
            style.status(Status::Error, "!"),
            clean(trouble)
        );
    }
    if style.amount != Amount::Quiet {
        sections(&mut out, report, *style);
    }
    if style.amount == Amount::Verbose {
        for check in &report.checks {
            let _ = writeln!(out, "{}", one_line(check, *style));
        }
        out.push('\n');
    }
    let warns = |check: &CheckResult| check.status == Status::Warn;
    let tells =
        |check: &&CheckResult| tells(check) && (style.amount != Amount::Quiet || !warns(check));
    for check in report.checks.iter().filter(tells) {
        failure(&mut out, check, *style);
    }
    if style.amount != Amount::Quiet {
        silent(&mut out, report, *style);
    }
    last_lines(&mut out, report, *style);
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
        let lines: Vec<&[&CheckResult]> = checks.chunks(TICKS).collect();
        for (index, line) in lines.iter().enumerate() {
            let ticks: String = line.iter().map(|check| tick(check.status, style)).collect();
            let title = if index == 0 {
                name.to_uppercase()
            } else {
                String::new()
            };
            let padding = " ".repeat(TICKS.saturating_sub(line.len()));
            let last = index + 1 == lines.len();
            let sums = if last {
                section_sums(report, name)
            } else {
                String::new()
            };
            let row = format!(" {title:<9} {ticks}{padding}  {sums}");
            let _ = writeln!(out, "{}", row.trim_end());
        }
    }
    if !report.checks.is_empty() {
        out.push('\n');
    }
}

fn section_sums(report: &Report, section: &str) -> String {
    let of_section = |item: &&RequirementResult| {
        item.excluded.is_none()
            && item
                .id
                .split('-')
                .nth(1)
                .is_some_and(|middle| middle.eq_ignore_ascii_case(section))
    };
    let sum = |level: &str| {
        let items = report
            .requirements
            .iter()
            .filter(of_section)
            .filter(|item| item.level == level);
        items.fold(Sum::default(), |sum, item| {
            crate::report::add(sum, item.status)
        })
    };
    [("must", sum("MUST")), ("should", sum("SHOULD"))]
        .iter()
        .filter(|(_, sum)| sum.total > 0)
        .map(|(word, sum)| format!("{:<12}", format!("{}/{} {word}", sum.passed, sum.total)))
        .collect()
}

fn tick(status: Status, style: Style) -> String {
    style.status(status, symbol(status))
}

/// One character for each status.
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

/// A check on one line.
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

/// Whether a check gets a block of its own.
fn tells(check: &CheckResult) -> bool {
    match check.status {
        Status::Fail
        | Status::Warn
        | Status::Xpass
        | Status::Unstable
        | Status::Inconclusive
        | Status::Error => true,
        // Its precondition may be broken in a way that no other check shows.
        Status::NotTestable => !check.violations.is_empty(),
        Status::Pass | Status::Xfail | Status::Unsupported | Status::NotRun => false,
    }
}

fn failure(out: &mut String, check: &CheckResult, style: Style) {
    let mark = style.status(check.status, symbol(check.status));
    let took = format!("{} · {} ms", check.status.name(), check.duration_ms);
    let _ = writeln!(
        out,
        "{mark} {:<58} {}",
        style.bold(&check.id),
        style.dim(&took)
    );
    if let Some(reason) = &check.reason {
        let _ = writeln!(out, "  {}", indented(&clean(reason), 2));
    }
    let mut last = "";
    for found in check.violations.iter().take(MAX_VIOLATIONS) {
        violation(out, found, found.requirement != last, style);
        last = found.requirement;
    }
    let more = check.violations.len().saturating_sub(MAX_VIOLATIONS);
    if more > 0 {
        let _ = writeln!(out, "    and {more} more, in the JSON report");
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
        let _ = writeln!(out, "  hint  {}", first.hint);
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
        "  again {}{}\n",
        clean(&check.again),
        explain.unwrap_or_default()
    );
}

fn violation(out: &mut String, found: &ViolationResult, with_sentence: bool, style: Style) {
    if with_sentence {
        let id = style.bold(found.requirement);
        let _ = writeln!(out, "  {id} {}  {}", found.level, found.sentence);
    }
    // A claim that is its own expectation is said once.
    if found.expected != [found.what.as_str()] {
        let _ = writeln!(out, "    {}", indented(&clean(&found.what), 4));
    }
    for (index, expected) in found.expected.iter().enumerate() {
        let word = if index == 0 { "expected" } else { "      or" };
        let _ = writeln!(out, "      {word}  {}", indented(&clean(expected), 16));
    }
    let actual = style.status(Status::Fail, &indented(&clean(&found.actual), 16));
    let _ = writeln!(out, "      actual    {actual}");
}

fn wire(out: &mut String, check: &CheckResult, style: Style) {
    if check.wire.is_empty() {
        return;
    }
    let _ = writeln!(out, "  wire");
    for line in &check.wire {
        let mark = if line.culprit_frame {
            style.status(Status::Fail, "  ✗ here")
        } else {
            String::new()
        };
        let at = format!("{:+.1} ms", line.at_ms);
        let _ = writeln!(
            out,
            "    {at:>11}  {}  {:<16} {}{mark}",
            line.way,
            clean(&line.what),
            clean(&line.payload)
        );
    }
}

/// Everything that was not measured, by name.
fn silent(out: &mut String, report: &Report, style: Style) {
    let listed = [
        (Status::NotTestable, "not testable"),
        (Status::Unsupported, "unsupported"),
        (Status::Xfail, "known failure"),
    ];
    let mut any = false;
    for (status, word) in listed {
        for check in report.of_status(status) {
            any = true;
            let reason = clean(check.reason.as_deref().unwrap_or_default());
            let word = style.status(status, &format!("{} {word}", symbol(status)));
            let _ = writeln!(out, "{word}  {}  {reason}", check.id);
        }
    }
    for known in &report.known {
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

/// The checks that were not selected, by reason; long lists by section.
fn not_run(out: &mut String, report: &Report, style: Style) -> bool {
    let mut reasons: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
    for check in report.of_status(Status::NotRun) {
        let reason = check.reason.as_deref().unwrap_or("not selected");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, checks)) => checks.push(check),
            None => reasons.push((reason, vec![check])),
        }
    }
    for (reason, checks) in &reasons {
        let names: Vec<String> = if checks.len() > NAMES {
            let mut sections: Vec<(&str, usize)> = Vec::new();
            for check in checks {
                match sections.iter_mut().find(|(name, _)| *name == check.section) {
                    Some((_, count)) => *count += 1,
                    None => sections.push((&check.section, 1)),
                }
            }
            sections
                .iter()
                .map(|(name, count)| format!("{count} of {name}"))
                .collect()
        } else {
            checks.iter().map(|check| check.id.clone()).collect()
        };
        let more = if checks.len() > NAMES {
            "; by name with --list-not-run"
        } else {
            ""
        };
        let text = format!(
            "· {} not run ({reason}): {}{more}",
            checks.len(),
            names.join(", ")
        );
        let _ = writeln!(out, "{}", style.dim(&text));
    }
    !reasons.is_empty()
}

fn last_lines(out: &mut String, report: &Report, style: Style) {
    let word = report.verdict.name().to_uppercase();
    let status = match report.exit_code {
        0 => Status::Pass,
        1 | 3 => Status::Fail,
        _ => Status::Inconclusive,
    };
    let mut parts: Vec<String> = Vec::new();
    for profile in report
        .profiles
        .iter()
        .filter(|profile| tells_of(report, profile))
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
    match report.known.len() {
        0 => {}
        1 => parts.push("1 known failure".to_owned()),
        known => parts.push(format!("{known} known failures")),
    }
    parts.push(format!("{:.1} s", report.run.duration_ms as f64 / 1000.0));
    let _ = writeln!(
        out,
        "{}  {}",
        style.status(status, &style.bold(&word)),
        parts.join(" · ")
    );
}

/// Of a selection only the profiles are told that it touches.
fn tells_of(report: &Report, profile: &ProfileSum) -> bool {
    report.run.filters.is_empty() || profile.must.passed + profile.must.failed > 0
}

/// ` (2 not run, 1 not measured)`: what was left out on purpose, and what could not be seen.
fn unmeasured(report: &Report, profile: &str) -> String {
    let missing: Vec<&RequirementResult> = report
        .requirements
        .iter()
        .filter(|item| item.profile == profile && item.level == "MUST" && item.excluded.is_none())
        .filter(|item| crate::report::add(Sum::default(), item.status).unmeasured > 0)
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
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// Text of a stranger, made harmless for a terminal: control characters are shown, not obeyed.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => clean.push('\n'),
            '\t' => clean.push(' '),
            // Overrides of the writing direction make a line read as what it does not say.
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
