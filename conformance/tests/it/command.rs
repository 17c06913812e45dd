//! Command line: every flag has a visible effect, and every exit code occurs.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use berth_broker::{Broker, BrokerOptions};
use serde_json::Value;

use crate::stub;

const PROGRAM: &str = env!("CARGO_BIN_EXE_berth-conformance");
/// Time limit of one command: more than twice the longest, on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a command line, independent of the environment of the test.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    run_with(arguments, &[]).await
}

async fn run_with(arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .args(arguments)
        .env_remove("BERTH_HOST")
        .env_remove("BERTH_NATS_SERVER");
    command.envs(env.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .unwrap()
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// `host FLAGS -- MODEL-HOST ...`
async fn on_model(flags: &[&str], mutant: Option<&str>) -> (i32, String, String) {
    let mut arguments = [&["host", "--seed", "7"], flags].concat();
    arguments.extend([
        "--",
        PROGRAM,
        "model-host",
        "--nats-url",
        "{nats_url}",
        "--host-id",
        "{host_id}",
    ]);
    if let Some(mutant) = mutant {
        arguments.extend(["--mutant", mutant]);
    }
    run(&arguments).await
}

async fn json_of(flags: &[&str], mutant: Option<&str>) -> (i32, Value) {
    let (code, out, err) = on_model(&[flags, &["-o", "json"]].concat(), mutant).await;
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}\n{err}")),
    )
}

fn statuses(report: &Value, wanted: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let with_status = checks.filter(|check| check["status"] == wanted);
    with_status
        .map(|check| check["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Invalid command lines and their error messages. `KNOWN`, `EXPIRED` and `TARGET` stand for files.
const INVALID: &[(&str, &str)] = &[
    ("hots", "similar subcommand exists: 'host'"),
    ("host --sed 1", "similar argument exists: '--seed'"),
    (
        "host --run strat/simultaneous -- x {nats_url}",
        "did you mean `start/simultaneous`",
    ),
    (
        "host --skip HOST-WIRE-01x -- x {nats_url}",
        "did you mean `HOST-WIRE-01",
    ),
    (
        "host --profile servises -- x {nats_url}",
        "did you mean `services`",
    ),
    (
        "host --report r.pdf -- x {nats_url}",
        "use .json, .xml or .txt",
    ),
    ("host -- x {nats-url}", "does not contain {nats_url}"),
    ("host -- x {nats_ur}", "did you mean `nats_url`"),
    ("host --target TARGET", "did you mean `launch`"),
    (
        "host --target no-such-file.toml",
        "cannot read target file no-such-file.toml",
    ),
    ("host --nats-url nats://127.0.0.1:1", "--host-id"),
    (
        "host --broker mqtt://x -- x {nats_url}",
        "expected `embedded`",
    ),
    (
        "host --broker nats-server --nats-url nats://x --host-id y",
        "--broker conflicts with",
    ),
    (
        "host --known-failures KNOWN -- x {nats_url}",
        "did you mean `wire/unknown-command`",
    ),
    (
        "host --known-failures EXPIRED -- x {nats_url}",
        "expired on 2020-01-01",
    ),
    ("host --repeat 0 -- x {nats_url}", "0 is not in 1..=1000"),
    ("host --jobs 0 -- x {nats_url}", "0 is not in 1..=256"),
    ("explain HOST-WIRE-999", "did you mean `HOST-WIRE-0"),
    ("list checks --run wyre/*", "matches nothing"),
    ("selftest --only no-such-mutant", "matches no trial"),
    ("init TARGET", "File exists"),
];

/// Each message names the error and suggests similar names.
#[tokio::test]
async fn rejects_invalid_usage_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let target = file(
        "target.toml",
        "[target]\nname = \"a\"\n[lunch]\ncommand = [\"x\"]",
    );
    let known = file(
        "known.toml",
        "[[known]]\ncheck = \"wire/unknown-comand\"\nmatch = \"x\"\nreason = \"r\"\nexpires = 2999-01-01",
    );
    let expired = file(
        "expired.toml",
        "[[known]]\ncheck = \"HOST-WIRE-001\"\nmatch = \"x\"\nreason = \"r\"\nexpires = 2020-01-01",
    );
    let files = [
        ("TARGET", &target),
        ("KNOWN", &known),
        ("EXPIRED", &expired),
    ];
    for (line, expected) in INVALID {
        let words = line.split(' ').map(|word| {
            let file = files.iter().find(|(name, _)| *name == word);
            file.map_or(word, |(_, path)| path.as_str())
        });
        let arguments: Vec<&str> = words.collect();
        let (code, out, err) = run(&arguments).await;
        assert_eq!(code, 2, "{arguments:?}\n{out}{err}");
        assert!(
            err.contains(expected),
            "{arguments:?} should say {expected:?}:\n{err}"
        );
    }
}

/// Each message names the cause.
#[tokio::test]
async fn reports_errors_of_the_environment_with_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json").display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (
            &[
                "host",
                "--report",
                &report,
                "--",
                "/no/such/program",
                "{nats_url}",
            ],
            "cannot launch `/no/such/program`",
        ),
        (
            &["host", "--", "false", "{nats_url}"],
            "the host exited before its first heartbeat (exit status: 1)",
        ),
        (
            &["host", "--nats-url", "nats://127.0.0.1:1", "--host-id", "x"],
            "cannot connect to NATS at nats://127.0.0.1:1",
        ),
        (
            &[
                "host",
                "--broker",
                "nats://user:hidden@127.0.0.1:1",
                "--",
                "x",
                "{nats_url}",
            ],
            "cannot connect to NATS at nats://127.0.0.1:1",
        ),
    ];
    for (arguments, expected) in cases {
        let (code, out, err) = run(arguments).await;
        assert_eq!(code, 3, "{arguments:?}\n{out}{err}");
        assert!(
            out.contains(expected),
            "{arguments:?} should say {expected:?}:\n{out}{err}"
        );
        assert!(
            !out.contains("hidden") && !err.contains("hidden"),
            "{out}{err}"
        );
    }
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["verdict"], "error");
    crate::report::assert_valid(&report);
}

#[tokio::test]
async fn reports_a_missing_program() {
    // A copy in an empty directory has no other programs beside it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("berth-conformance");
    std::fs::copy(PROGRAM, &program).unwrap();
    for (arguments, expected) in [
        (&["host"][..], "no target"),
        (
            &["doctor", "--broker", "nats-server", "--", "x", "{nats_url}"][..],
            "cannot find nats-server",
        ),
    ] {
        let mut command = tokio::process::Command::new(&program);
        command
            .args(arguments)
            .env("PATH", dir.path())
            .kill_on_drop(true);
        command
            .env_remove("BERTH_HOST")
            .env_remove("BERTH_NATS_SERVER");
        let output = tokio::time::timeout(TIMEOUT, command.output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(expected),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn reports_a_host_without_heartbeat() {
    let stub = stub::start("{}").await;
    let (code, out, _) = run(&[
        "host",
        "--nats-url",
        &stub.url,
        "--host-id",
        "somebody-else",
    ])
    .await;
    assert_eq!(code, 3, "{out}");
    assert!(
        out.contains("no heartbeat and no reply from host \"somebody-else\""),
        "{out}"
    );
}

/// The report shows the violated requirement and marks the frame.
#[tokio::test]
async fn fails_a_stub_with_empty_replies() {
    let stub = stub::start("{}").await;
    let flags = [
        "host",
        "--nats-url",
        &stub.url,
        "--host-id",
        &stub.id,
        "--profile",
        "core",
    ];
    let (code, out, err) = run(&[&flags[..], &["--skip", "heartbeat/*"]].concat()).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("NON-CONFORMANT"), "{out}");
    assert!(out.contains("HOST-JSON-007 MUST"), "{out}");
    assert!(
        out.contains("`workloadStatus` with a `workloadState`"),
        "{out}"
    );
    assert!(out.contains("no state in \"{}\""), "{out}");
    assert!(
        out.contains("✗ here"),
        "the frame of the violation is marked: {out}"
    );
    assert!(out.contains("? not testable"), "{out}");
}

#[tokio::test]
async fn report_contains_selection_seed_and_repetitions() {
    let (code, report) = json_of(&["--run", "status/*", "--skip", "HOST-STATUS-003"], None).await;
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verdict"], "partial");
    assert_eq!(report["run"]["seed"], 7);
    assert_eq!(
        report["run"]["filters"],
        serde_json::json!(["--run status/*", "--skip HOST-STATUS-003"])
    );
    let passed = statuses(&report, "pass");
    assert!(
        passed.iter().any(|id| id.starts_with("status/")),
        "{passed:?}"
    );
    let checks = report["checks"].as_array().unwrap();
    let skipped = checks
        .iter()
        .filter(|check| check["reason"] == "excluded by --skip");
    for check in skipped.clone() {
        assert!(
            check["covers"]
                .as_array()
                .unwrap()
                .contains(&"HOST-STATUS-003".into()),
            "{check}"
        );
    }
    assert!(skipped.count() > 0);
    crate::report::assert_valid(&report);

    let (_, report) = json_of(
        &[
            "--run",
            "status/unknown*",
            "--repeat",
            "3",
            "--profile",
            "core",
        ],
        None,
    )
    .await;
    let repeated = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["status"] == "pass")
        .unwrap();
    assert_eq!(
        repeated["attempts"],
        serde_json::json!(["pass", "pass", "pass"])
    );
    assert_eq!(report["profiles"].as_array().unwrap().len(), 1);

    let (_, listed, _) = on_model(&["--list-not-run"], None).await;
    let (_, with_slow, _) = on_model(&["--list-not-run", "--slow"], None).await;
    assert!(listed.contains("slow: add --slow"), "{listed}");
    assert_eq!(with_slow, "");
    let slow = listed
        .lines()
        .next()
        .and_then(|line| line.split(' ').next())
        .unwrap();
    let (code, out, _) = on_model(&["--run", slow], None).await;
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("NOTHING-SELECTED"), "{out}");
}

#[tokio::test]
async fn wire_shows_traffic_of_passing_checks() {
    let flags = ["--run", "wire/unknown-command"];
    let (_, without, _) = on_model(&flags, None).await;
    let (_, with, _) = on_model(&["--wire", flags[0], flags[1]], None).await;
    assert!(!without.contains("suite → host"), "{without}");
    assert!(with.contains("suite → host"), "{with}");
    assert!(with.contains("PARTIAL"), "{with}");
}

#[tokio::test]
async fn quick_excludes_checks_that_wait_long() {
    let (_, listed, _) = on_model(&["--list-not-run", "--quick"], None).await;
    assert!(listed.contains("long: omit --quick"), "{listed}");
    let (_, without, _) = on_model(&["--list-not-run"], None).await;
    assert!(!without.contains("--quick"), "{without}");
}

#[tokio::test]
async fn rejects_features_without_a_check() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target.toml");
    let text = "[target]\nname = \"a\"\n[launch]\ncommand = [\"{nats_url}\"]\n\
                [features]\nfoo = false\n";
    std::fs::write(&target, text).unwrap();
    let (code, _, error) = run(&["host", "--target", target.to_str().unwrap()]).await;
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("`foo`"), "{error}");
}

#[tokio::test]
async fn known_failures_match_only_the_listed_failure() {
    let dir = tempfile::tempdir().unwrap();
    let known = |text: &str| -> PathBuf {
        let path = dir.path().join("known.toml");
        let entry = format!(
            "[[known]]\ncheck = \"HOST-STATUS-001\"\nmatch = \"{text}\"\nreason = \"fix in progress\"\n\
             issue = \"https://issues.example/1\"\nexpires = 2999-12-31\n"
        );
        std::fs::write(&path, entry).unwrap();
        path
    };
    let mutant = Some("unknown-is-running");
    let (code, report) = json_of(&["--run", "HOST-STATUS-001"], mutant).await;
    assert_eq!(code, 1, "{report:#}");
    let failed = statuses(&report, "fail");
    assert!(!failed.is_empty());

    let flag = |path: &Path| path.display().to_string();
    let matching = flag(&known("RUNNING"));
    let (code, report) = json_of(
        &["--run", "HOST-STATUS-001", "--known-failures", &matching],
        mutant,
    )
    .await;
    assert_eq!(
        (code, statuses(&report, "xfail")),
        (0, failed.clone()),
        "{report:#}"
    );
    assert_eq!(report["known_failures"][0]["reason"], "fix in progress");

    let other = flag(&known("another failure"));
    let (code, report) = json_of(
        &["--run", "HOST-STATUS-001", "--known-failures", &other],
        mutant,
    )
    .await;
    assert_eq!(
        (code, statuses(&report, "fail")),
        (1, failed.clone()),
        "{report:#}"
    );

    let (code, report) = json_of(
        &["--run", "HOST-STATUS-001", "--known-failures", &other],
        None,
    )
    .await;
    assert_eq!(
        (code, statuses(&report, "xpass")),
        (1, failed),
        "{report:#}"
    );
}

/// The suite cannot signal a host that is already running.
#[tokio::test]
async fn check_that_is_not_testable_makes_the_run_incomplete() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let url = broker.url();
    let mut model = tokio::process::Command::new(PROGRAM);
    model.args(["model-host", "--nats-url", &url, "--host-id", "running"]);
    let _model = model.kill_on_drop(true).spawn().unwrap();
    let flags = [
        "host",
        "--nats-url",
        &url,
        "--host-id",
        "running",
        "--run",
        "shutdown/sigterm",
    ];
    let (code, out, _) = run(&flags).await;
    assert_eq!(code, 5, "{out}");
    assert!(out.contains("INCOMPLETE"), "{out}");
    assert!(
        out.contains("shutdown/sigterm  needs a host of its own"),
        "{out}"
    );
}

#[tokio::test]
async fn writes_reports_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("new").join(name).display().to_string();
    let (json, xml, txt) = (path("r.json"), path("r.xml"), path("r.txt"));
    let reports = ["--report", &json, "--report", &xml, "--report", &txt];
    let flags = [&["--run", "wire/unknown-command"], &reports[..]].concat();
    let (code, out, _) = on_model(&flags, None).await;
    assert_eq!(code, 0, "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no colors outside of a terminal: {out}"
    );
    assert!(!out.contains(" ms\n"), "no line for each check: {out}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    crate::report::assert_valid(&report);
    assert!(
        std::fs::read_to_string(xml)
            .unwrap()
            .contains("<testsuites")
    );
    assert!(out.starts_with(&std::fs::read_to_string(txt).unwrap()));

    let (_, verbose, _) = on_model(
        &["--run", "wire/unknown-command", "--verbose", "--no-color"],
        None,
    )
    .await;
    assert!(
        verbose.contains("pass         wire/unknown-command"),
        "{verbose}"
    );
}

#[tokio::test]
async fn quiet_prints_only_failures_and_the_verdict() {
    let quiet = ["--run", "wire/unknown-command", "--quiet"];
    let (code, passed, _) = on_model(&quiet, None).await;
    assert_eq!(code, 0, "{passed}");
    assert!(passed.contains("PARTIAL  core"), "{passed}");
    assert_eq!(
        passed.lines().filter(|line| !line.is_empty()).count(),
        3,
        "header, preflight and verdict: {passed}"
    );

    let (code, failed, _) = on_model(&quiet, Some("silent-on-unknown-command")).await;
    assert_eq!(code, 1, "{failed}");
    assert!(failed.contains("✗ wire/unknown-command"), "{failed}");
}

#[tokio::test]
async fn lists_and_explains() {
    for kind in ["requirements", "checks", "roles", "mutants"] {
        let (code, text, _) = run(&["list", kind]).await;
        let (_, json, _) = run(&["list", kind, "--json"]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (code, text.lines().count()),
            (0, json.as_array().unwrap().len()),
            "{kind}"
        );
        assert!(text.lines().count() > 10, "{kind}");
    }
    let (_, core, _) = run(&[
        "list",
        "requirements",
        "--profile",
        "core",
        "--run",
        "HOST-WIRE-*",
    ])
    .await;
    assert!(
        core.lines().all(|line| line.starts_with("HOST-WIRE-")) && core.lines().count() > 10,
        "{core}"
    );

    let (code, page, _) = run(&["explain", "host-start-003"]).await;
    assert_eq!(code, 0);
    for part in [
        "HOST-START-003  MUST",
        "Of any number of simultaneous starts",
        "mutant:",
        "why",
        "checks",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (_, page, _) = run(&["explain", "wire/unknown-command"]).await;
    assert!(page.contains("HOST-WIRE-005 MUST"), "{page}");
    for (id, part) in [
        ("hello", "Serves HTTP"),
        ("services", "HOST-SVC-001"),
        ("monitor/replies", "HOST-"),
    ] {
        let (code, page, _) = run(&["explain", id]).await;
        assert!(code == 0 && page.contains(part), "{id}: {page}");
    }

    let (_, of_hosts, _) = run(&["list", "checks", "--side", "host"]).await;
    assert!(
        of_hosts.lines().all(|line| line.starts_with("host ")),
        "{of_hosts}"
    );

    let (code, help, _) = run(&["--help"]).await;
    assert!(code == 0 && help.contains("Exit codes"), "{help}");
    assert!(!help.contains("model-host"), "{help}");
}

#[tokio::test]
async fn init_writes_a_target_file_and_doctor_verifies_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target.toml").display().to_string();
    let (code, out, _) = run(&["init", &path]).await;
    assert!(code == 0 && out.contains("--target"), "{out}");

    let text = format!(
        "[target]\nname = \"model\"\n[launch]\ncommand = [\"{PROGRAM}\", \"model-host\", \"--nats-url\", \"{{nats_url}}\"]\n"
    );
    std::fs::write(&path, text).unwrap();
    let (code, out, err) = run(&["doctor", "--target", &path]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("✓ broker     embedded") && out.contains("✓ commands   reply"),
        "{out}"
    );
}

#[tokio::test]
async fn interrupted_run_writes_its_report_and_stops_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let ready = dir.path().join("ready");
    // The shell records its PID and then becomes the host.
    let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", ready.display());
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args([
        "host",
        "--run",
        "heartbeat/*",
        "--report",
        &report.display().to_string(),
        "--",
    ]);
    command.args([
        "sh",
        "-c",
        &script,
        PROGRAM,
        "model-host",
        "--nats-url",
        "{nats_url}",
    ]);
    let child = command
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let host = wait_for(|| {
        std::fs::read_to_string(&ready)
            .ok()?
            .trim()
            .parse::<i32>()
            .ok()
    })
    .await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(report["verdict"], "aborted");
    let host = nix::unistd::Pid::from_raw(host);
    wait_for(|| nix::sys::signal::kill(host, None).is_err().then_some(())).await;
}

async fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let observed = async {
        loop {
            if let Some(value) = probe() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, observed).await.unwrap()
}
