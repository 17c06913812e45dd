//! Each command once as it should be, and as often as it can go wrong.

use std::io::{Read, Write};

use berth_broker::{Broker, BrokerOptions};

use crate::support::{Ended, Stage, berthctl};

#[test]
fn hosts_are_listed() {
    let stage = Stage::set();
    let table = stage.berthctl(&["hosts", "--at-least", "1"]).with(0);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("NAME   ID  "), "{table:?}");
    for word in [
        "toy-1",
        &stage.host_id,
        "toys",
        "7.8.9",
        "toy.example:8000",
        "3072 MiB",
    ] {
        assert!(lines[1].contains(word), "{word}: {table:?}");
    }
    assert!(
        !table.out.contains('\u{1b}'),
        "no colours away from a terminal"
    );
    let json = stage
        .berthctl(&["hosts", "--listen", "2", "-o", "json"])
        .with(0)
        .json();
    assert_eq!(
        (&json[0]["id"], &json[1]),
        (&stage.host_id.as_str().into(), &serde_json::Value::Null)
    );
    let json = stage
        .berthctl(&["heartbeat", &stage.host_id, "-o", "json"])
        .with(0)
        .json();
    assert_eq!(json["friendlyName"], "toy-1");
}

#[test]
fn a_workload_is_started_asked_for_and_stopped() {
    let stage = Stage::set();
    let image = [
        "start",
        "--image",
        "reg/hello:1",
        "--http-host",
        "hello.test",
        "--id",
        "w",
    ];
    let started = stage.berthctl(&image).with(0);
    let line = started.out.lines().nth(1).unwrap();
    assert!(line.starts_with("w         RUNNING  "), "{started:?}");
    assert!(line.ends_with("reg/hello:1 on hello.test"), "{started:?}");
    let again = stage.berthctl(&image).with(1);
    assert!(
        again
            .err
            .contains("the host refused: the workload id is in use"),
        "{again:?}"
    );

    let status = stage
        .berthctl(&["status", "w", "-o", "json"])
        .with(0)
        .json();
    assert_eq!(status["workloadState"], "WORKLOAD_STATE_RUNNING");
    assert_eq!(status["hostId"], stage.host_id.as_str());
    let stopped = stage.berthctl(&["stop", "w"]).with(0);
    assert!(stopped.out.contains("NOT_FOUND"), "{stopped:?}");
    let host = ["--host", &stage.host_id];
    let gone = stage
        .berthctl(&[&["status", "w"][..], &host].concat())
        .with(1);
    assert!(gone.out.contains("NOT_FOUND"), "{gone:?}");
    stage
        .berthctl(&[&["stop", "w"][..], &host].concat())
        .with(1);
    let unknown = stage.berthctl(&["status", "w", "--listen", "1.5"]).with(1);
    assert!(
        unknown
            .err
            .contains("none of the 1 hosts heard of knows workload \"w\""),
        "{unknown:?}"
    );
}

#[test]
fn a_file_or_stdin_says_what_to_start() {
    let stage = Stage::set();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.json");
    std::fs::write(
        &file,
        r#"{"workloadId":"from-file","workload":{"name":"n"}}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let started = stage
        .berthctl(&["start", "-f", file, "-o", "json"])
        .with(0)
        .json();
    assert_eq!(started["workloadId"], "from-file");
    let workload = r#"{"witWorld":{"components":[{"image":"i"}]}}"#;
    let started = stage
        .berthctl_reading(&["start", "-f", "-", "--id", "x"], workload)
        .with(0);
    assert!(started.out.contains("x         RUNNING"), "{started:?}");
    let named = stage
        .berthctl_reading(&["start", "-f", "-", "-o", "json"], workload)
        .with(0)
        .json();
    assert_eq!(named["workloadId"].as_str().unwrap().len(), 36);

    let wrong = stage
        .berthctl_reading(&["start", "-f", "-"], r#"{"kind":"Pod"}"#)
        .with(2);
    assert!(wrong.err.contains("nothing in it is a field"), "{wrong:?}");
    let wrong = r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"x"}}}"#;
    let wrong = stage.berthctl_reading(&["start", "-f", "-"], wrong).with(2);
    assert!(
        wrong.err.contains("`workload.service.maxRestarts`"),
        "{wrong:?}"
    );
    stage
        .berthctl(&["start", "-f", "/nonexistent/x.json"])
        .with(2);
    stage.berthctl(&["start"]).with(2);
    stage
        .berthctl(&["start", "--image", "a", "-f", "b"])
        .with(2);
}

#[test]
fn what_the_host_says_no_to_fails_with_1() {
    let stage = Stage::set();
    let refused = stage
        .berthctl(&["start", "--image", "refuse:1", "--id", "r"])
        .with(1);
    assert!(refused.out.contains("ERROR"), "{refused:?}");
    assert!(
        refused
            .out
            .contains("no image refuse:1 [31m in the registry"),
        "{refused:?}"
    );
    let long = "x".repeat(300);
    let refused = stage
        .berthctl(&["status", &long, "--host", &stage.host_id])
        .with(1);
    assert!(refused.err.contains("300 bytes"), "{refused:?}");
    let slow = ["start", "--image", "never:1", "--id", "s", "--timeout", "1"];
    let slow = stage.berthctl(&slow).with(1);
    assert!(slow.err.contains("still STARTING after 1 s"), "{slow:?}");
    assert!(slow.err.contains("hint: it goes on"), "{slow:?}");
    stage.berthctl(&["stop", "s"]).with(0);
}

#[test]
fn silence_fails_with_3() {
    let stage = Stage::set();
    let nobody = stage.berthctl(&["status", "a", "--host", "nobody"]).with(3);
    assert!(
        nobody.err.contains("host nobody: no host listens"),
        "{nobody:?}"
    );
    let odd = stage
        .berthctl(&["status", "a", "--host", "no.token"])
        .with(2);
    assert!(odd.err.contains("cannot be the id of a host"), "{odd:?}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let empty = runtime
        .block_on(Broker::start(BrokerOptions::default()))
        .unwrap();
    let none = Ended::of(
        berthctl(&empty.url(), &["hosts", "--listen", "0.2"])
            .output()
            .unwrap(),
    );
    assert!(
        none.with(3)
            .err
            .contains("no host was heard of within 0.2 s")
    );
    let url = empty.url().replace("//", "//ann:secret@");
    runtime.block_on(empty.stop());
    let away = Ended::of(berthctl(&url, &["hosts"]).output().unwrap()).with(3);
    assert!(
        away.err
            .contains("cannot connect to NATS at nats://***@127.0.0.1:"),
        "{away:?}"
    );
    assert!(!away.err.contains("secret"), "{away:?}");
}

/// As a `wash host` that cannot decode what it is asked, or is busy with a pull.
#[test]
fn a_host_that_listens_and_says_nothing_is_told_from_one_that_is_gone() {
    let stage = Stage::set();
    let mut mute = std::net::TcpStream::connect(stage.url.trim_start_matches("nats://")).unwrap();
    mute.write_all(b"CONNECT {}\r\nSUB runtime.host.mute.> 1\r\nPING\r\n")
        .unwrap();
    let mut heard = String::new();
    while !heard.contains("PONG") {
        let mut some = [0; 512];
        let bytes = mute.read(&mut some).unwrap();
        heard.push_str(std::str::from_utf8(&some[..bytes]).unwrap());
    }
    let silent = stage.berthctl(&["status", "a", "--host", "mute"]).with(3);
    assert!(
        silent
            .err
            .contains("host mute: the host did not answer within 5s"),
        "{silent:?}"
    );
    assert!(
        silent.err.contains("hint: it is there and silent"),
        "{silent:?}"
    );
}

#[test]
fn contradictions_on_the_command_line_fail_with_2() {
    let run = |arguments: &[&str]| {
        Ended::of(berthctl("nats://127.0.0.1:1", arguments).output().unwrap())
            .with(2)
            .err
    };
    assert!(run(&["hosts", "--nats-token", "a", "--nats-nkey", "b"]).contains("give one of"));
    assert!(run(&["hosts", "--nats-user", "a"]).contains("go together"));
    assert!(run(&["hosts", "--nats-url", "http://x"]).contains("not the address"));
    assert!(run(&["hosts", "--nats-tls-ca", "/nonexistent"]).contains("cannot read /nonexistent"));
    assert!(run(&["hosts", "--nats-tls-cert", "/etc/hosts"]).contains("go together"));
    assert!(run(&["hots"]).contains("hosts"), "the near spelling");
    assert!(run(&["hosts", "--listen", "soon"]).contains("not a number of seconds"));
}

#[test]
fn watch_tells_of_hosts() {
    let stage = Stage::set();
    let watched = stage.berthctl(&["watch", "--count", "1"]).with(0);
    let expected = format!("joined    toy-1  {}  0 workloads", stage.host_id);
    assert_eq!(watched.out.trim_end(), expected);
    let watched = stage
        .berthctl(&["watch", "--count", "1", "-o", "json"])
        .with(0)
        .json();
    assert_eq!(
        (&watched["event"], &watched["hostId"]),
        (&"joined".into(), &stage.host_id.as_str().into())
    );
}

#[test]
fn help_and_completions_are_there() {
    let stage = Stage::set();
    let help = stage.berthctl(&["--help"]).with(0);
    for part in [
        "Exit codes:",
        "Examples:",
        "--nats-url",
        "hosts",
        "completions",
    ] {
        assert!(help.out.contains(part), "{part}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stage.berthctl(&["completions", shell]).with(0);
        assert!(
            script.out.contains("berthctl") && script.out.contains("heartbeat"),
            "{shell}"
        );
    }
}
