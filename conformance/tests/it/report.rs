//! Reports: valid by their schema, equal to their snapshots, and safe with hostile text.

use berth_conformance::check::outcome::{Outcome, Status, Violation, WireLine};
use berth_conformance::check::side::Side;
use berth_conformance::check::verdict::{self, Scope};
use berth_conformance::report::format::{Style, Verbosity};
use berth_conformance::report::{
    self, EnvironmentInfo, KnownFailureResult, Report, RunInfo, SuiteInfo, TargetInfo, json, junit,
    text,
};
use berth_conformance::spec::requirements::{self as req, Profile};
use berth_conformance::testbed::secrets::Secrets;
use serde_json::Value;

/// Asserts that the report is valid by the published schema and its counts add up.
pub fn assert_valid(report: &Value) {
    let schema: Value = serde_json::from_str(json::SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let totals = report["totals"].as_object().unwrap().values();
    let sum: u64 = totals.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(
        sum,
        report["checks"].as_array().unwrap().len() as u64,
        "totals"
    );
    for profile in report["profiles"].as_array().unwrap() {
        for level in ["must", "should"] {
            let part = |name: &str| profile[level][name].as_u64().unwrap();
            assert_eq!(
                part("passed") + part("failed") + part("unmeasured"),
                part("total"),
                "{profile}"
            );
        }
    }
}

const HOSTILE: &str = "]]><script>&\"'\u{0}\u{1b}[31m\u{202e}\r\nsecond line \u{fffe}ü✓";

fn violation(requirement: &'static req::Requirement, actual: &str) -> Violation {
    Violation {
        requirement,
        description: "state of the second start".to_owned(),
        expected: vec!["ERROR".to_owned(), "no state at all".to_owned()],
        actual: actual.to_owned(),
        source: "src/checks/start.rs:10".to_owned(),
        at: std::time::Duration::from_millis(12),
        culprit_frame: None,
        stalled: None,
    }
}

fn outcomes(hostile: &str) -> Vec<Outcome> {
    let mut failed = Outcome::new("start/duplicate", &[&req::HOST_START_002], Status::Fail);
    failed.violations = vec![violation(&req::HOST_START_002, hostile)];
    failed.duration = std::time::Duration::from_millis(41);
    failed.wire = vec![
        line(
            "suite → host",
            "workload.start",
            "{\"workloadId\":\"a\"}",
            false,
        ),
        line("host → suite", "reply", hostile, true),
    ];
    failed.log = Some(format!("first\n{hostile}"));
    failed.source = "src/checks/start.rs:10".to_owned();
    let mut known = Outcome::new(
        "wire/unknown-command",
        &[&req::HOST_WIRE_005],
        Status::Xfail,
    );
    known.violations = vec![violation(&req::HOST_WIRE_005, "no reply")];
    let mut outcomes = vec![
        Outcome::new("status/unknown", &[&req::HOST_STATUS_001], Status::Pass),
        failed,
        known,
        Outcome::new(
            "heartbeat/first",
            &[&req::HOST_BEAT_002],
            Status::NotTestable,
        )
        .with_reason("needs the tap"),
        Outcome::new("json/nulls", &[&req::HOST_JSON_013], Status::Inconclusive)
            .with_reason(hostile),
    ];
    for (id, status) in [
        ("wire/a", Status::Warn),
        ("wire/b", Status::Xpass),
        ("wire/c", Status::Unstable),
        ("wire/d", Status::Unsupported),
        ("wire/e", Status::Error),
        ("wire/f", Status::NotRun),
    ] {
        outcomes.push(Outcome::new(id, &[&req::HOST_WIRE_018], status).with_reason("for a reason"));
    }
    outcomes
}

fn line(direction: &'static str, kind: &str, payload: &str, culprit: bool) -> WireLine {
    WireLine {
        at_ms: 1.25,
        direction,
        kind: kind.to_owned(),
        payload: payload.to_owned(),
        culprit,
    }
}

/// Returns a report with a value in every part, and the same in every run.
fn sample(hostile: &str, secrets: &Secrets) -> Report {
    let outcomes = outcomes(hostile);
    let profiles = [Profile::Core];
    let statuses = verdict::requirement_statuses(&outcomes, Side::Host, &profiles);
    let scope = Scope {
        profiles: profiles.to_vec(),
        filtered: false,
        aborted: false,
    };
    let verdict = verdict::verdict(&outcomes, &statuses, &scope);
    let rerun =
        |outcome: &Outcome| format!("berth-conformance host --run {} -- my-host", outcome.id);
    Report {
        schema_version: report::SCHEMA_VERSION,
        suite: SuiteInfo {
            name: "berth-conformance",
            version: "0.0.0",
            requirements_sha256: "0".repeat(64),
            requirements: 3,
        },
        target: TargetInfo {
            name: hostile.to_owned(),
            ..TargetInfo::default()
        },
        environment: EnvironmentInfo {
            broker: "embedded".to_owned(),
            rtt_ms: 0.4,
            patience_ms: 250.0,
            ..EnvironmentInfo::default()
        },
        run: RunInfo {
            seed: 7,
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 9800,
            repeat: 1,
            ..RunInfo::default()
        },
        verdict,
        exit_code: verdict.exit_code(),
        error: None,
        notes: Vec::new(),
        profiles: report::profile_counts(&statuses, &profiles),
        // A new requirement does not change the snapshots.
        requirements: statuses
            .iter()
            .map(report::requirement_result)
            .filter(|item| !item.checks.is_empty())
            .collect(),
        checks: outcomes
            .iter()
            .map(|outcome| report::check_result(outcome, secrets, rerun(outcome)))
            .collect(),
        known_failures: vec![KnownFailureResult {
            check: "wire/unknown-command".to_owned(),
            text: "no reply".to_owned(),
            reason: "fix in progress".to_owned(),
            issue: Some("https://issues.example/1".to_owned()),
            expires: "2999-12-31".to_owned(),
        }],
        totals: report::totals(&outcomes),
    }
}

fn plain(hostile: &str) -> Report {
    let mut report = sample(hostile, &Secrets::default());
    report.profiles.clear();
    report
}

#[test]
fn golden_text() {
    insta::assert_snapshot!(text::render(
        &plain("RUNNING"),
        &Style {
            color: false,
            verbosity: Verbosity::Verbose,
        }
    ));
}

#[test]
fn golden_junit() {
    insta::assert_snapshot!(junit::render(&plain(HOSTILE)));
}

#[test]
fn golden_json() {
    insta::assert_snapshot!(json::render(&plain("RUNNING")));
}

#[test]
fn json_matches_its_schema() {
    let report: Value =
        serde_json::from_str(&json::render(&sample(HOSTILE, &Secrets::default()))).unwrap();
    assert_valid(&report);
}

#[test]
fn escapes_hostile_text() {
    let report = plain(HOSTILE);
    let shown = text::render(&report, &Style::plain());
    assert!(
        !shown.contains(['\u{0}', '\u{1b}', '\u{202e}', '\r']),
        "{shown:?}"
    );
    let xml = junit::render(&report);
    assert!(
        !xml.contains("]]>")
            && !xml.contains("<script>")
            && !xml.contains(['\u{0}', '\u{1b}', '\u{fffe}'])
    );
    let huge = "x".repeat(10 * 1024 * 1024);
    let xml = junit::render(&plain(&huge));
    assert!(xml.len() < 12 * 10 * 1024 * 1024, "{}", xml.len());
}

/// Parses the XML independently of the suite's writer: tags must be balanced and entities known.
#[test]
fn junit_is_well_formed() {
    let xml = junit::render(&plain(HOSTILE));
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        .unwrap();
    let (mut cases, mut children) = (0, std::collections::BTreeMap::<&str, usize>::new());
    while let Some((content, after)) = rest.split_once('<') {
        assert_entities(content);
        let (tag, tail) = after.split_once('>').unwrap();
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        assert_entities(tag);
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        cases += usize::from(name == "testcase");
        *children.entry(name).or_default() += 1;
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty());
    assert_eq!(cases, 11);
    assert_eq!(
        (children["failure"], children["error"], children["skipped"]),
        (2, 3, 4)
    );
}

fn assert_entities(text: &str) {
    for entity in text.split('&').skip(1) {
        let name = entity.split(';').next().unwrap();
        assert!(
            ["amp", "lt", "gt", "quot"].contains(&name) || name.starts_with('#'),
            "{name}"
        );
    }
}

#[test]
fn redacts_secrets_in_every_format() {
    let secrets = Secrets::default();
    secrets.add("hunter2-secret");
    let report = sample("denied for hunter2-secret", &secrets);
    let report = Report {
        target: TargetInfo::default(),
        ..report
    };
    for rendered in [
        json::render(&report),
        junit::render(&report),
        text::render(&report, &Style::plain()),
    ] {
        assert!(
            !rendered.contains("hunter2") && rendered.contains("[redacted]"),
            "{rendered}"
        );
    }
}

#[test]
fn uses_colors_only_on_request() {
    let report = plain("RUNNING");
    let colored = text::render(
        &report,
        &Style {
            color: true,
            verbosity: Verbosity::Normal,
        },
    );
    assert!(colored.contains("\u{1b}[31m"));
    assert!(!text::render(&report, &Style::plain()).contains('\u{1b}'));
}

#[test]
#[should_panic(expected = "HOST-START-002 MUST")]
fn assertion_panics_with_the_report() {
    plain("RUNNING").assert_conformant();
}
