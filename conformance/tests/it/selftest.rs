//! The `selftest` command ends on a signal and leaves no process and no file behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_berth-conformance");
/// Timeout for the start and the end of a model, with a large margin for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn wait_until(description: &str, condition: impl Fn() -> bool) {
    let started_at = Instant::now();
    while !condition() {
        assert!(started_at.elapsed() < TIMEOUT, "timeout: {description}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Returns whether a running process has `dir` in its command line.
fn is_used(dir: &Path) -> bool {
    let path = dir.display().to_string();
    let processes = entries(Path::new("/proc")).into_iter();
    // The command line of a process that has ended cannot be read.
    let mut command_lines =
        processes.filter_map(|process| std::fs::read(process.join("cmdline")).ok());
    command_lines.any(|text| String::from_utf8_lossy(&text).contains(&path))
}

/// Starts a self test with temporary files in `dir`, and waits until a model scheduler runs.
async fn start_selftest(dir: &Path) -> tokio::process::Child {
    let child = tokio::process::Command::new(PROGRAM)
        .args(["selftest", "--side", "scheduler", "--jobs", "2"])
        .env("TMPDIR", dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // The model scheduler creates this directory when it starts.
    let is_running = || {
        let mut entries = entries(dir).into_iter();
        entries.any(|entry| entry.join(".berth").is_dir())
    };
    wait_until("a model scheduler runs", is_running).await;
    assert!(is_used(dir));
    child
}

fn pid(child: &tokio::process::Child) -> Pid {
    Pid::from_raw(child.id().unwrap().try_into().unwrap())
}

#[tokio::test]
async fn selftest_leaves_no_process_and_no_file_after_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start_selftest(dir.path()).await;
        kill(pid(&child), signal).unwrap();
        let status = tokio::time::timeout(TIMEOUT, child.wait()).await.unwrap();
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(!is_used(dir.path()));
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn models_end_when_selftest_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start_selftest(dir.path()).await;
    child.kill().await.unwrap();
    wait_until("no model runs", || !is_used(dir.path())).await;
}
