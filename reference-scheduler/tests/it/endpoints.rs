//! HTTP endpoints, signals, and errors of the process.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::fixture::{Fixture, eventually, within};
use crate::scheduler::{command, process};

async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.ok()?;
    Some(response)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_health_and_metrics_and_shuts_down_on_signal() {
    let fixture = Fixture::new().await;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let flags = [
        "-metrics-bind-address",
        &address,
        "-health-probe-bind-address",
        &address,
    ];
    let mut scheduler = process(&fixture.broker.url(), fixture.manifests(), &flags);
    let ready = async {
        loop {
            if get(port, "/readyz")
                .await
                .is_some_and(|it| it.starts_with("HTTP/1.1 200"))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within(ready).await;
    assert!(
        get(port, "/healthz")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    let metrics = get(port, "/metrics").await.unwrap();
    assert!(metrics.contains("berth_scheduler_is_leader 1"), "{metrics}");
    assert!(
        metrics.contains("berth_scheduler_hosts{state=\"alive\"} 0"),
        "{metrics}"
    );
    let pid = nix::unistd::Pid::from_raw(scheduler.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = within(scheduler.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    let lock = fixture.manifests().join(".berth/.lock");
    let is_unlocked = || std::fs::File::open(&lock).unwrap().try_lock().is_ok();
    eventually(is_unlocked, || "the directory is unlocked".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_heartbeats_fill_no_log() {
    const HEARTBEATS: usize = 500;
    let fixture = Fixture::new().await;
    let mut command = command(&fixture.broker.url(), fixture.manifests(), &[]);
    let mut scheduler = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(scheduler.stderr.take().unwrap()).lines();
    let mut next_line = async || within(lines.next_line()).await.unwrap().unwrap();
    while !next_line().await.contains("leader") {}
    let url = fixture.broker.url();
    let mut publisher = TcpStream::connect(url.trim_start_matches("nats://"))
        .await
        .unwrap();
    let heartbeats = (0..HEARTBEATS).map(|host| {
        format!(
            "PUB runtime.operator.heartbeat.h{} 3\r\n{{}}x\r\n",
            host % 7
        )
    });
    let mut frames: String = std::iter::once("CONNECT {}\r\n".to_owned())
        .chain(heartbeats)
        .collect();
    // The scheduler may subscribe after the first ones.
    let publish = async {
        let mut interval = tokio::time::interval(Duration::from_millis(200));
        loop {
            interval.tick().await;
            publisher.write_all(frames.as_bytes()).await.unwrap();
            frames = frames.replace("CONNECT {}\r\n", "");
        }
    };
    let count = async {
        let mut bad = 0;
        loop {
            let line = next_line().await;
            bad += usize::from(line.contains("cannot decode heartbeat"));
            if line.contains("omitting lines") {
                return bad;
            }
        }
    };
    let bad = tokio::select! {
        bad = count => bad,
        () = publish => 0,
    };
    assert_eq!(bad, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_invalid_options_on_standard_error() {
    for (flags, code, part) in [
        (
            &["--store", "dir:/nowhere/at/all"][..],
            1,
            "is not a directory",
        ),
        (&["--store", "etcd"][..], 2, "dir:PATH"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_berth-scheduler"))
            .args(flags)
            .stdin(Stdio::null())
            .output();
        let output = within(output).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
