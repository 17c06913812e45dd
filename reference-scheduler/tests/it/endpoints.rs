//! What those see who watch the process.

use std::net::TcpListener;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::scheduler::process;
use crate::stage::{Stage, eventually, within};

async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served_and_a_signal_ends_in_order() {
    let stage = Stage::set().await;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let flags = [
        "-metrics-bind-address",
        &address,
        "-health-probe-bind-address",
        &address,
    ];
    let mut scheduler = process(&stage.broker.url(), stage.manifests(), &flags);
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
    assert!(metrics.contains("berth_scheduler_acts 1"), "{metrics}");
    assert!(
        metrics.contains("berth_scheduler_hosts{state=\"alive\"} 0"),
        "{metrics}"
    );
    let pid = nix::unistd::Pid::from_raw(scheduler.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = within(scheduler.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    let lock = stage.manifests().join(".berth/.lock");
    let free = || std::fs::File::open(&lock).unwrap().try_lock().is_ok();
    eventually(free, || "the directory is let go of".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_said_on_standard_error() {
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
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    }
}
