//! The interop matrix: the example host of each language with the example scheduler of each
//! language.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bindings::{BindingsError, go, python};
use crate::child_guard::ChildGuard;
use crate::{cargo, wait};

/// Time limit of one pair: long, because the scheduler may need the second heartbeat of the host,
/// after 15 s, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example programs of one language, as command lines without the NATS URL.
#[derive(Clone)]
struct Language {
    name: &'static str,
    host: Vec<PathBuf>,
    scheduler: Vec<PathBuf>,
}

/// Runs all pairs on a real nats-server, concurrently, because they mostly wait for heartbeats.
/// Returns whether every pair started, ran, and stopped its workload.
///
/// # Errors
///
/// When Go or Python is missing, or a program cannot be run.
pub fn run(root: &Path, nats_server: &Path) -> Result<bool, MatrixError> {
    let dir = tempfile::tempdir().map_err(MatrixError::Directory)?;
    let languages = [
        rust(root),
        go_examples(root, dir.path())?,
        python_examples(root)?,
    ];
    let mut success = true;
    let results = std::thread::scope(|scope| {
        let pairs = languages
            .iter()
            .flat_map(|host| languages.iter().map(move |scheduler| (host, scheduler)));
        let spawn = |(host, scheduler): (&'_ Language, &'_ Language)| {
            let name = format!("{} host, {} scheduler", host.name, scheduler.name);
            let (host, scheduler) = (host.clone(), scheduler.clone());
            let run = move || run_pair(root, nats_server, &host, &scheduler);
            (name, scope.spawn(run))
        };
        let pairs: Vec<_> = pairs.map(spawn).collect();
        let joined = pairs.into_iter().map(|(name, pair)| (name, pair.join()));
        joined.collect::<Vec<_>>()
    });
    for (name, result) in results {
        match result.unwrap_or(Err(MatrixError::Panicked))? {
            Ok(()) => println!("{name}: ok"),
            Err(output) => {
                println!("{name}: FAILED\n{output}");
                success = false;
            }
        }
    }
    Ok(success)
}

fn rust(root: &Path) -> Language {
    let example = |name: &str| vec![cargo::program(root, "debug/examples", name)];
    Language {
        name: "Rust",
        host: example("minimal_host"),
        scheduler: example("minimal_scheduler"),
    }
}

fn go_examples(root: &Path, dir: &Path) -> Result<Language, MatrixError> {
    go::build(root, "./examples/minimal-host", dir)?;
    go::build(root, "./examples/minimal-scheduler", dir)?;
    Ok(Language {
        name: "Go",
        host: vec![dir.join("minimal-host")],
        scheduler: vec![dir.join("minimal-scheduler")],
    })
}

fn python_examples(root: &Path) -> Result<Language, MatrixError> {
    let python = python::interpreter(root)?;
    let example = |name: &str| {
        let path = root.join(python::DIR).join("examples").join(name);
        vec![python.clone(), "-u".into(), path]
    };
    Ok(Language {
        name: "Python",
        host: example("minimal_host.py"),
        scheduler: example("minimal_scheduler.py"),
    })
}

/// Runs one pair. The inner `Err` is the unexpected output of the scheduler.
fn run_pair(
    root: &Path,
    nats_server: &Path,
    host: &Language,
    scheduler: &Language,
) -> Result<Result<(), String>, MatrixError> {
    let dir = tempfile::tempdir().map_err(MatrixError::Directory)?;
    let mut broker = Command::new(nats_server);
    broker.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]);
    let broker = spawn(broker.arg(dir.path()).stderr(Stdio::null()))?;
    let ports = dir.path().join(ports_file(nats_server, &broker));
    let Some(url) = wait::wait_for(PATIENCE, || read_url(&ports)) else {
        return Ok(Err("nats-server is not listening".to_owned()));
    };
    let mut command = program(root, &scheduler.scheduler, &url);
    let mut scheduler = spawn(command.stderr(Stdio::inherit()))?;
    let _host = spawn(&mut program(root, &host.host, &url))?;
    let exit = wait::wait_for(PATIENCE, || scheduler.0.try_wait().transpose());
    let Some(status) = exit.transpose().map_err(MatrixError::Wait)? else {
        let _ = scheduler.0.kill();
        return Ok(Err(format!(
            "{}no exit within {PATIENCE:?}",
            read_output(&mut scheduler)
        )));
    };
    let output = read_output(&mut scheduler);
    if status.success() && is_expected(&output) {
        return Ok(Ok(()));
    }
    Ok(Err(format!("{output}{status}")))
}

/// Returns the name of the file to which a nats-server writes its ports.
fn ports_file(nats_server: &Path, broker: &ChildGuard) -> String {
    let name = nats_server.file_name().unwrap_or_default();
    format!("{}_{}.ports", name.to_string_lossy(), broker.0.id())
}

fn read_url(ports: &Path) -> Option<String> {
    let text = std::fs::read(ports).ok()?;
    let ports: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let url = ports.get("nats")?.get(0)?.as_str()?;
    Some(url.to_owned())
}

/// Whether the output is that of a successful scheduler: a host joined, the workload is running,
/// the workload is gone.
fn is_expected(output: &str) -> bool {
    let lines: Vec<&str> = output.lines().collect();
    matches!(
        lines.as_slice(),
        [joined, started, .., gone]
            if joined.contains(" joined as ")
                && started.starts_with("demo-1 is ")
                && started.ends_with("RUNNING")
                && *gone == "demo-1 is gone"
    )
}

fn program(root: &Path, command_line: &[PathBuf], url: &str) -> Command {
    let mut arguments = command_line.iter();
    let mut command = Command::new(arguments.next().map(PathBuf::as_path).unwrap_or(root));
    command.args(arguments).arg(url);
    command.env("PYTHONPATH", root.join(python::DIR).join("src"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn spawn(command: &mut Command) -> Result<ChildGuard, MatrixError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    ChildGuard::spawn(command).map_err(|source| MatrixError::Program { program, source })
}

/// Reads the output of a program. It is a few lines, which the pipe buffers.
fn read_output(child: &mut ChildGuard) -> String {
    let mut output = String::new();
    if let Some(stdout) = &mut child.0.stdout {
        let _ = stdout.read_to_string(&mut output);
    }
    output
}

/// Reason why the pairs cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// A temporary directory cannot be created.
    #[error("cannot create a temporary directory")]
    Directory(#[source] std::io::Error),
    /// The examples of a language cannot be built.
    #[error("cannot build the examples of a language")]
    Language(#[from] BindingsError),
    /// A program cannot be run.
    #[error("cannot run {program}")]
    Program {
        /// Name of the program.
        program: String,
        /// I/O error.
        source: std::io::Error,
    },
    /// A program cannot be waited for.
    #[error("cannot wait for a program")]
    Wait(#[source] std::io::Error),
    /// A thread of this program panicked.
    #[error("the thread of a pair panicked")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_output_of_each_language_only() {
        let output =
            |first: &str| format!("minimal-7 joined as h\ndemo-1 is {first}\ndemo-1 is gone\n");
        assert!(is_expected(&output("RUNNING")));
        assert!(is_expected(&output("WORKLOAD_STATE_RUNNING")));
        assert!(!is_expected(&output("ERROR")));
        assert!(!is_expected("minimal-7 joined as h\ndemo-1 is RUNNING\n"));
        assert!(!is_expected(""));
    }
}
