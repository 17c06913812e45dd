//! The command line: every flag changes something that can be seen, every exit code occurs.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use berth_broker::{Broker, BrokerOptions};
use serde_json::Value;

use crate::stub;

const PROGRAM: &str = env!("CARGO_BIN_EXE_berth-conformance");
/// No command of these tests takes half as long, on a machine that does nothing else.
const WITHIN: Duration = Duration::from_secs(120);

/// Runs a command line to its end, without anything of the surroundings that would change it.
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
    let output = tokio::time::timeout(WITHIN, command.output())
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
    let of_status = checks.filter(|check| check["status"] == wanted);
    of_status
        .map(|check| check["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Command lines that are wrong, and what is said of each. `KNOWN`, `EXPIRED`, `TARGET`: files of that kind.
const MISTAKES: &[(&str, &str)] = &[
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
    ("host -- x {nats-url}", "does not say {nats_url}"),
    ("host -- x {nats_ur}", "did you mean `nats_url`"),
    ("host --target TARGET", "did you mean `launch`"),
    ("host --target no-such-file.toml", "cannot be read"),
    ("host --nats-url nats://127.0.0.1:1", "--host-id"),
    (
        "host --broker mqtt://x -- x {nats_url}",
        "expected `embedded`",
    ),
    (
        "host --broker nats-server --nats-url nats://x --host-id y",
        "leave out --broker",
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
    (
        "selftest --only no-such-mutant",
        "is part of no trial's name",
    ),
    ("init TARGET", "File exists"),
];

/// Mistakes are told from each other, with the near spelling where there is one, all with exit code 2.
#[tokio::test]
async fn mistakes_of_the_user() {
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
    for (line, expected) in MISTAKES {
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

/// What is no fault of the host has exit code 3, and says what is missing.
#[tokio::test]
async fn trouble_with_the_surroundings() {
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
            "the host ended before its first heartbeat (exit status: 1)",
        ),
        (
            &["host", "--nats-url", "nats://127.0.0.1:1", "--host-id", "x"],
            "no NATS server answers at nats://127.0.0.1:1",
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
            "no NATS server answers at nats://127.0.0.1:1",
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

/// Without any target there is none to judge, and without nats-server none to use.
#[tokio::test]
async fn nothing_to_launch() {
    // Copied away from what may lie beside it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("berth-conformance");
    std::fs::copy(PROGRAM, &program).unwrap();
    for (arguments, expected) in [
        (&["host"][..], "there is no target"),
        (
            &["doctor", "--broker", "nats-server", "--", "x", "{nats_url}"][..],
            "there is no nats-server",
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
        let output = tokio::time::timeout(WITHIN, command.output())
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

/// A broker without the host: it is waited for, then missed.
#[tokio::test]
async fn a_host_that_is_not_there() {
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
        out.contains("no host appeared: no heartbeat of \"somebody-else\""),
        "{out}"
    );
}

/// A stub that answers `{}` fails, and the report says of what.
#[tokio::test]
async fn a_stub_that_answers_nothing_useful_fails() {
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
    let (code, out, err) = run(&[&flags[..], &["--skip", "beat/*"]].concat()).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("NON-CONFORMANT"), "{out}");
    assert!(out.contains("HOST-JSON-007 MUST"), "{out}");
    assert!(
        out.contains("`workloadStatus` with a `workloadState`"),
        "{out}"
    );
    assert!(out.contains("no state in \"{}\""), "{out}");
    assert!(out.contains("✗ here"), "the guilty frame is marked: {out}");
    assert!(out.contains("? not testable"), "{out}");
}

/// Selection, seed and repetition show in the report.
#[tokio::test]
async fn flags_of_selection() {
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
        .filter(|check| check["reason"] == "left out by --skip");
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

/// A mutant fails with exit code 1, and the failure can be pinned down as known.
#[tokio::test]
async fn known_failures_are_strict() {
    let dir = tempfile::tempdir().unwrap();
    let known = |text: &str| -> PathBuf {
        let path = dir.path().join("known.toml");
        let entry = format!(
            "[[known]]\ncheck = \"HOST-STATUS-001\"\nmatch = \"{text}\"\nreason = \"being mended\"\n\
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

    let flags = |path: &Path| path.display().to_string();
    let pinned = flags(&known("RUNNING"));
    let (code, report) = json_of(
        &["--run", "HOST-STATUS-001", "--known-failures", &pinned],
        mutant,
    )
    .await;
    assert_eq!(
        (code, statuses(&report, "xfail")),
        (0, failed.clone()),
        "{report:#}"
    );
    assert_eq!(report["known"][0]["reason"], "being mended");

    let other = flags(&known("another failure"));
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

/// What a host that runs already cannot be asked is named, and keeps the profile from being awarded.
#[tokio::test]
async fn not_testable_is_no_pass() {
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
        "down/sigterm",
    ];
    let (code, out, _) = run(&flags).await;
    assert_eq!(code, 5, "{out}");
    assert!(out.contains("INCOMPLETE"), "{out}");
    assert!(
        out.contains("down/sigterm  needs a host of its own"),
        "{out}"
    );
}

/// Reports are written in every form, and the same is printed with and without details.
#[tokio::test]
async fn reports_and_output() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("new").join(name).display().to_string();
    let (json, xml, txt) = (path("r.json"), path("r.xml"), path("r.txt"));
    let reports = ["--report", &json, "--report", &xml, "--report", &txt];
    let flags = [&["--run", "wire/unknown-command"], &reports[..]].concat();
    let (code, out, _) = on_model(&flags, None).await;
    assert_eq!(code, 0, "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no colours outside of a terminal: {out}"
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

/// Whoever wants only the verdict gets it, and what is in its way.
#[tokio::test]
async fn quiet_tells_the_verdict_and_what_is_in_its_way() {
    let quiet = ["--run", "wire/unknown-command", "--quiet"];
    let (code, good, _) = on_model(&quiet, None).await;
    assert_eq!(code, 0, "{good}");
    assert!(good.contains("PARTIAL  core"), "{good}");
    assert_eq!(
        good.lines().filter(|line| !line.is_empty()).count(),
        3,
        "its header, the doctor and the verdict: {good}"
    );

    let (code, bad, _) = on_model(&quiet, Some("silent-on-unknown-command")).await;
    assert_eq!(code, 1, "{bad}");
    assert!(bad.contains("✗ wire/unknown-command"), "{bad}");
}

/// The other commands.
#[tokio::test]
async fn lists_and_explanations() {
    for what in ["requirements", "checks", "roles", "mutants"] {
        let (code, text, _) = run(&["list", what]).await;
        let (_, json, _) = run(&["list", what, "--json"]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (code, text.lines().count()),
            (0, json.as_array().unwrap().len()),
            "{what}"
        );
        assert!(text.lines().count() > 10, "{what}");
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

    let (code, help, _) = run(&["--help"]).await;
    assert!(code == 0 && help.contains("Exit codes"), "{help}");
    assert!(!help.contains("model-host"), "{help}");
}

/// `init` writes a file that is a target.
#[tokio::test]
async fn init_and_doctor() {
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
        out.contains("✓ broker     embedded") && out.contains("✓ commands   answered"),
        "{out}"
    );
}

/// An interrupted run says so, leaves its report, and leaves no process behind.
#[tokio::test]
async fn interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let ready = dir.path().join("ready");
    // The shell writes down that the host is about to run, and stays the parent of nothing.
    let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", ready.display());
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args([
        "host",
        "--run",
        "beat/*",
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
    let output = tokio::time::timeout(WITHIN, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(report["verdict"], "aborted");
    let host = nix::unistd::Pid::from_raw(host);
    wait_for(|| nix::sys::signal::kill(host, None).is_err().then_some(())).await;
}

async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, seen).await.unwrap()
}
