//! HTTP endpoints, signals, and errors of the process.

use std::net::TcpListener;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::fixture::{Fixture, eventually, within};
use crate::scheduler::process;

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
