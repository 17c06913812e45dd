//! Each command, in its successful and its failing cases.

use std::io::{Read, Write};

use berth_broker::{Broker, BrokerOptions};

use crate::support::{Fixture, Outcome, berthctl};

#[test]
fn lists_hosts() {
    let fixture = Fixture::start();
    let table = fixture
        .berthctl(&["hosts", "--at-least", "1"])
        .exits_with(0);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].starts_with("NAME    ID  "), "{table:?}");
    for cell in [
        "fake-1",
        &fixture.host_id,
        "fakes",
        "7.8.9",
        "fake.example:8000",
        "3072 MiB",
    ] {
        assert!(lines[1].contains(cell), "{cell}: {table:?}");
    }
    assert!(
        !table.stdout.contains('\u{1b}'),
        "no colors unless on a terminal"
    );
    let json = fixture
        .berthctl(&["hosts", "--listen", "2", "-o", "json"])
        .exits_with(0)
        .json();
    assert_eq!(
        (&json[0]["id"], &json[1]),
        (&fixture.host_id.as_str().into(), &serde_json::Value::Null)
    );
    let json = fixture
        .berthctl(&["heartbeat", &fixture.host_id, "-o", "json"])
        .exits_with(0)
        .json();
    assert_eq!(json["friendlyName"], "fake-1");
}

#[test]
fn starts_shows_and_stops_a_workload() {
    let fixture = Fixture::start();
    let start = [
        "start",
        "--image",
        "reg/hello:1",
        "--http-host",
        "hello.test",
        "--id",
        "w",
    ];
    let started = fixture.berthctl(&start).exits_with(0);
    let line = started.stdout.lines().nth(1).unwrap();
    assert!(line.starts_with("w         RUNNING  "), "{started:?}");
    assert!(line.ends_with("reg/hello:1 on hello.test"), "{started:?}");
    let again = fixture.berthctl(&start).exits_with(1);
    assert!(
        again
            .stderr
            .contains("the host refused the command: the workload ID is in use"),
        "{again:?}"
    );

    let status = fixture
        .berthctl(&["status", "w", "-o", "json"])
        .exits_with(0)
        .json();
    assert_eq!(status["workloadState"], "WORKLOAD_STATE_RUNNING");
    assert_eq!(status["hostId"], fixture.host_id.as_str());
    let stopped = fixture.berthctl(&["stop", "w"]).exits_with(0);
    assert!(stopped.stdout.contains("NOT_FOUND"), "{stopped:?}");
    let host = ["--host", &fixture.host_id];
    let gone = fixture
        .berthctl(&[&["status", "w"][..], &host].concat())
        .exits_with(1);
    assert!(gone.stdout.contains("NOT_FOUND"), "{gone:?}");
    fixture
        .berthctl(&[&["stop", "w"][..], &host].concat())
        .exits_with(1);
    let unknown = fixture
        .berthctl(&["status", "w", "--listen", "1.5"])
        .exits_with(1);
    assert!(
        unknown
            .stderr
            .contains("none of the 1 hosts has workload \"w\""),
        "{unknown:?}"
    );
}

#[test]
fn starts_a_workload_from_a_file_or_stdin() {
    let fixture = Fixture::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.json");
    std::fs::write(
        &file,
        r#"{"workloadId":"from-file","workload":{"witWorld":{"components":[{"image":"i"}]}}}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let started = fixture
        .berthctl(&["start", "-f", file, "-o", "json"])
        .exits_with(0)
        .json();
    assert_eq!(started["workloadId"], "from-file");
    let workload = r#"{"witWorld":{"components":[{"image":"i"}]}}"#;
    let started = fixture
        .berthctl_with_stdin(&["start", "-f", "-", "--id", "x"], workload)
        .exits_with(0);
    assert!(started.stdout.contains("x         RUNNING"), "{started:?}");
    let named = fixture
        .berthctl_with_stdin(&["start", "-f", "-", "-o", "json"], workload)
        .exits_with(0)
        .json();
    assert_eq!(named["workloadId"].as_str().unwrap().len(), 36);

    let wrong = fixture
        .berthctl_with_stdin(&["start", "-f", "-"], r#"{"kind":"Pod"}"#)
        .exits_with(2);
    assert!(wrong.stderr.contains("unknown field `kind`"), "{wrong:?}");
    let wrong = r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"x"}}}"#;
    let wrong = fixture
        .berthctl_with_stdin(&["start", "-f", "-"], wrong)
        .exits_with(2);
    assert!(
        wrong.stderr.contains("`workload.service.maxRestarts`"),
        "{wrong:?}"
    );
    fixture
        .berthctl(&["start", "-f", "/nonexistent/x.json"])
        .exits_with(2);
    fixture.berthctl(&["start"]).exits_with(2);
    fixture
        .berthctl(&["start", "--image", "a", "-f", "b"])
        .exits_with(2);
}

#[test]
fn failed_start_and_refusal_exit_with_1() {
    let fixture = Fixture::start();
    let refused = fixture
        .berthctl(&["start", "--image", "missing:1", "--id", "r"])
        .exits_with(1);
    assert!(refused.stdout.contains("ERROR"), "{refused:?}");
    assert!(
        refused
            .stdout
            .contains("no image missing:1 [31m in the registry"),
        "{refused:?}"
    );
    let long = "x".repeat(300);
    let refused = fixture
        .berthctl(&["status", &long, "--host", &fixture.host_id])
        .exits_with(1);
    assert!(refused.stderr.contains("300 bytes"), "{refused:?}");
    let slow = ["start", "--image", "never:1", "--id", "s", "--timeout", "1"];
    let slow = fixture.berthctl(&slow).exits_with(1);
    assert!(slow.stderr.contains("still STARTING after 1 s"), "{slow:?}");
    assert!(
        slow.stderr.contains("hint: the operation continues"),
        "{slow:?}"
    );
    fixture.berthctl(&["stop", "s"]).exits_with(0);
}

#[test]
fn missing_reply_exits_with_3() {
    let fixture = Fixture::start();
    let absent = fixture
        .berthctl(&["status", "a", "--host", "absent"])
        .exits_with(3);
    assert!(
        absent
            .stderr
            .contains("host absent: no responders for the host"),
        "{absent:?}"
    );
    let invalid = fixture
        .berthctl(&["status", "a", "--host", "no.token"])
        .exits_with(2);
    assert!(
        invalid.stderr.contains("invalid host ID \"no.token\""),
        "{invalid:?}"
    );

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let empty = runtime
        .block_on(Broker::start(BrokerOptions::default()))
        .unwrap();
    let none = Outcome::new(
        berthctl(&empty.url(), &["hosts", "--listen", "0.2"])
            .output()
            .unwrap(),
    );
    assert!(
        none.exits_with(3)
            .stderr
            .contains("no hosts found within 0.2 s")
    );
    let url = empty.url().replace("//", "//ann:secret@");
    runtime.block_on(empty.stop());
    let unreachable = Outcome::new(berthctl(&url, &["hosts"]).output().unwrap()).exits_with(3);
    assert!(
        unreachable
            .stderr
            .contains("cannot connect to NATS at nats://***@127.0.0.1:"),
        "{unreachable:?}"
    );
    assert!(!unreachable.stderr.contains("secret"), "{unreachable:?}");
}

/// The host behaves like a `wash host` that cannot decode a request, or that pulls an image.
#[test]
fn silent_host_is_a_timeout() {
    let fixture = Fixture::start();
    let mut mute = std::net::TcpStream::connect(fixture.url.trim_start_matches("nats://")).unwrap();
    mute.write_all(b"CONNECT {}\r\nSUB runtime.host.mute.> 1\r\nPING\r\n")
        .unwrap();
    let mut received = String::new();
    while !received.contains("PONG") {
        let mut buffer = [0; 512];
        let bytes = mute.read(&mut buffer).unwrap();
        received.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap());
    }
    let silent = fixture
        .berthctl(&["status", "a", "--host", "mute"])
        .exits_with(3);
    assert!(
        silent
            .stderr
            .contains("host mute: the host did not reply within 5s"),
        "{silent:?}"
    );
    assert!(
        silent
            .stderr
            .contains("hint: the host is connected but does not reply"),
        "{silent:?}"
    );
}

#[test]
fn invalid_command_line_exits_with_2() {
    let run = |arguments: &[&str]| {
        Outcome::new(berthctl("nats://127.0.0.1:1", arguments).output().unwrap())
            .exits_with(2)
            .stderr
    };
    assert!(
        run(&["hosts", "--nats-token", "a", "--nats-nkey", "b"]).contains("are mutually exclusive")
    );
    assert!(run(&["hosts", "--nats-user", "a"]).contains("require each other"));
    assert!(run(&["hosts", "--nats-url", "http://x"]).contains("invalid NATS server address"));
    assert!(run(&["hosts", "--nats-tls-ca", "/nonexistent"]).contains("cannot read /nonexistent"));
    assert!(run(&["hosts", "--nats-tls-cert", "/etc/hosts"]).contains("require each other"));
    assert!(run(&["hots"]).contains("hosts"), "suggests a similar name");
    assert!(run(&["hosts", "--listen", "soon"]).contains("expected a number of seconds"));
}

#[test]
fn watch_prints_events() {
    let fixture = Fixture::start();
    let watched = fixture.berthctl(&["watch", "--count", "1"]).exits_with(0);
    let expected = format!("joined    fake-1  {}  0 workloads", fixture.host_id);
    assert_eq!(watched.stdout.trim_end(), expected);
    let watched = fixture
        .berthctl(&["watch", "--count", "1", "-o", "json"])
        .exits_with(0)
        .json();
    assert_eq!(
        (&watched["event"], &watched["hostId"]),
        (&"joined".into(), &fixture.host_id.as_str().into())
    );
}

#[test]
fn prints_help_and_completions() {
    let fixture = Fixture::start();
    let help = fixture.berthctl(&["--help"]).exits_with(0);
    for part in [
        "Exit codes:",
        "Examples:",
        "--nats-url",
        "hosts",
        "completions",
    ] {
        assert!(help.stdout.contains(part), "{part}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = fixture.berthctl(&["completions", shell]).exits_with(0);
        assert!(
            script.stdout.contains("berthctl") && script.stdout.contains("heartbeat"),
            "{shell}"
        );
    }
}
