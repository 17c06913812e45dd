//! Runs the suite many times on both brokers while other threads keep the processors busy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

mod load;
mod log;

use self::load::Load;
use self::log::{Entry, Log, LogError};
use crate::nats_server::NatsServerError;
use crate::{cargo, nats_server};

/// Directory of the log and of the reports of failed runs; not committed.
const DIR: &str = "target/stress";

/// One part of a run: the reference program of one side on one broker. The parts of a run are
/// concurrent.
#[derive(Clone, Copy)]
struct Part {
    side: &'static str,
    broker: &'static str,
}

const PARTS: [Part; 4] = [
    Part {
        side: "host",
        broker: "embedded",
    },
    Part {
        side: "host",
        broker: "nats-server",
    },
    Part {
        side: "scheduler",
        broker: "embedded",
    },
    Part {
        side: "scheduler",
        broker: "nats-server",
    },
];

/// Runs every part `runs` times, except those that the log already contains for this commit.
/// Returns whether all passed, the earlier ones included.
///
/// # Errors
///
/// When the programs cannot be built or run, or the log cannot be read or written.
pub fn run(root: &Path, runs: u32, fresh: bool) -> Result<bool, StressError> {
    let nats_server = nats_server::obtain(root)?;
    build(root)?;
    let dir = root.join(DIR);
    let mut log = Log::open(&dir, &commit(root)?, fresh)?;
    let load = Load::start();
    for run in 1..=runs {
        let missing: Vec<Part> = PARTS
            .into_iter()
            .filter(|part| !log.contains(run, part.side, part.broker))
            .collect();
        let results: Vec<Result<Entry, StressError>> = std::thread::scope(|scope| {
            let parts: Vec<_> = missing
                .iter()
                .map(|part| scope.spawn(|| judge(root, &dir, &nats_server, run, *part)))
                .collect();
            let joined = parts.into_iter().map(|part| part.join());
            joined
                .map(|result| result.unwrap_or(Err(StressError::Panicked)))
                .collect()
        });
        for entry in results {
            let entry = entry?;
            println!("{entry}");
            log.append(entry)?;
        }
    }
    drop(load);
    let failed = log.failed();
    println!(
        "{} of {} parts passed; log: {}",
        log.len() - failed,
        log.len(),
        log.path().display()
    );
    Ok(failed == 0)
}

fn judge(
    root: &Path,
    dir: &Path,
    nats_server: &Path,
    run: u32,
    part: Part,
) -> Result<Entry, StressError> {
    let Part { side, broker } = part;
    let program = |name: &str| cargo::program(root, "debug", name);
    let report = dir.join(format!("run-{run}-{side}-{broker}.json"));
    let mut command = Command::new(program("berth-conformance"));
    command
        .current_dir(root)
        .args([side, "--quiet", "--no-color", "--broker", broker])
        .args(["--seed", &run.to_string()])
        .arg("--report")
        .arg(&report)
        .env("BERTH_HOST", program("berth-host"))
        .env("BERTH_SCHEDULER", program("berth-scheduler"))
        .env(nats_server::VARIABLE, nats_server)
        .stdin(Stdio::null());
    let started = Instant::now();
    let output = command.output().map_err(|source| StressError::Program {
        program: "berth-conformance".to_owned(),
        source,
    })?;
    let passed = output.status.success();
    if passed {
        // A report of a passed run says nothing that the log does not.
        let _ = std::fs::remove_file(&report);
    } else {
        println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
        println!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(Entry {
        run,
        side: side.to_owned(),
        broker: broker.to_owned(),
        passed,
        seconds: started.elapsed().as_secs(),
    })
}

/// Builds the programs with the features that the tests use, so that nothing is compiled twice.
fn build(root: &Path) -> Result<(), StressError> {
    let arguments = [
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--test",
        "it",
    ];
    let status = cargo::command(root, &arguments)
        .status()
        .map_err(|source| StressError::Program {
            program: "cargo".to_owned(),
            source,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(StressError::Build)
    }
}

/// Returns the checked-out commit, marked if the work tree differs from it.
fn commit(root: &Path) -> Result<String, StressError> {
    let mut command = Command::new("git");
    command
        .current_dir(root)
        .args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let output = command.output().map_err(|source| StressError::Program {
        program: "git".to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reason why the runs cannot proceed.
#[derive(Debug, thiserror::Error)]
pub enum StressError {
    /// nats-server cannot be provided.
    #[error("cannot provide nats-server")]
    NatsServer(#[from] NatsServerError),
    /// The programs cannot be built.
    #[error("cannot build the programs")]
    Build,
    /// A program cannot be run.
    #[error("cannot run {program}")]
    Program {
        /// Name of the program.
        program: String,
        /// I/O error.
        source: std::io::Error,
    },
    /// The log cannot be used.
    #[error("cannot use the log of earlier runs")]
    Log(#[from] LogError),
    /// A thread of this program panicked.
    #[error("the thread of a run panicked")]
    Panicked,
}

/// The log file of a directory.
fn log_path(dir: &Path) -> PathBuf {
    dir.join("log.jsonl")
}
