//! The self test as a program: a signal ends it, and nothing of it is left.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_berth-conformance");
/// Far longer than a model takes to come up or to end on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WITHIN, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Whether a process was launched with that directory among its arguments.
fn is_used(dir: &Path) -> bool {
    let path = dir.display().to_string();
    let processes = entries(Path::new("/proc")).into_iter();
    // A process that has ended meanwhile has no arguments.
    let mut arguments = processes.filter_map(|one| std::fs::read(one.join("cmdline")).ok());
    arguments.any(|text| String::from_utf8_lossy(&text).contains(&path))
}

/// Begins a self test whose trials keep their files in `dir`, and waits until one of them is under way.
async fn under_way(dir: &Path) -> tokio::process::Child {
    let child = tokio::process::Command::new(PROGRAM)
        .args(["selftest", "--side", "scheduler", "--jobs", "2"])
        .env("TMPDIR", dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // The model makes the folder of its own when it has started.
    let started = || {
        let mut all = entries(dir).into_iter();
        all.any(|one| one.join(".berth").is_dir())
    };
    until("a model scheduler is up", started).await;
    assert!(is_used(dir));
    child
}

fn pid(child: &tokio::process::Child) -> Pid {
    Pid::from_raw(child.id().unwrap().try_into().unwrap())
}

#[tokio::test]
async fn a_signal_ends_it_and_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = under_way(dir.path()).await;
        kill(pid(&child), signal).unwrap();
        let status = tokio::time::timeout(WITHIN, child.wait()).await.unwrap();
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(!is_used(dir.path()));
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn models_end_with_a_suite_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = under_way(dir.path()).await;
    child.kill().await.unwrap();
    until("no model is left", || !is_used(dir.path())).await;
}
