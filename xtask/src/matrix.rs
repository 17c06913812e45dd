//! Every language's host with every language's scheduler, on a real nats-server, from start to stop.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bindings::{BindingsError, go, python};
use crate::running::Running;
use crate::{cargo, wait};

/// How long one pair may take: its host may have to beat a second time before the scheduler has heard of
/// it, which is 15 s, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example programs of one language, as command lines without the broker.
#[derive(Clone)]
struct Language {
    name: &'static str,
    host: Vec<PathBuf>,
    scheduler: Vec<PathBuf>,
}

/// Runs all pairs at once: most of their time they wait for a heartbeat. Returns whether every workload was started, seen to run, and
/// stopped.
///
/// # Errors
///
/// When there is no Go or Python, or a program cannot be run.
pub fn run(root: &Path, nats_server: &Path) -> Result<bool, MatrixError> {
    let dir = tempfile::tempdir().map_err(MatrixError::Directory)?;
    let languages = [
        rust(root),
        go_examples(root, dir.path())?,
        python_examples(root)?,
    ];
    let mut good = true;
    let outcomes = std::thread::scope(|scope| {
        let pairs = languages
            .iter()
            .flat_map(|host| languages.iter().map(move |scheduler| (host, scheduler)));
        let spawn = |(host, scheduler): (&'_ Language, &'_ Language)| {
            let name = format!("{} host, {} scheduler", host.name, scheduler.name);
            let (host, scheduler) = (host.clone(), scheduler.clone());
            let run = move || pair(root, nats_server, &host, &scheduler);
            (name, scope.spawn(run))
        };
        let pairs: Vec<_> = pairs.map(spawn).collect();
        let joined = pairs.into_iter().map(|(name, pair)| (name, pair.join()));
        joined.collect::<Vec<_>>()
    });
    for (name, outcome) in outcomes {
        match outcome.unwrap_or(Err(MatrixError::Panicked))? {
            Ok(()) => println!("{name}: ok"),
            Err(said) => {
                println!("{name}: FAILED\n{said}");
                good = false;
            }
        }
    }
    Ok(good)
}

fn rust(root: &Path) -> Language {
    let example = |name: &str| vec![cargo::built(root, "debug/examples", name)];
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

/// What one pair came to; `Err` is what its scheduler said instead.
fn pair(
    root: &Path,
    nats_server: &Path,
    host: &Language,
    scheduler: &Language,
) -> Result<Result<(), String>, MatrixError> {
    let dir = tempfile::tempdir().map_err(MatrixError::Directory)?;
    let mut broker = Command::new(nats_server);
    broker.args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"]);
    let broker = begin(broker.arg(dir.path()).stderr(Stdio::null()))?;
    let ports = dir.path().join(ports_file(nats_server, &broker));
    let Some(url) = wait::for_some(PATIENCE, || url_in(&ports)) else {
        return Ok(Err("nats-server does not listen".to_owned()));
    };
    let mut command = program(root, &scheduler.scheduler, &url);
    let mut scheduler = begin(command.stderr(Stdio::inherit()))?;
    let _host = begin(&mut program(root, &host.host, &url))?;
    let ended = wait::for_some(PATIENCE, || scheduler.0.try_wait().transpose());
    let Some(status) = ended.transpose().map_err(MatrixError::Wait)? else {
        let _ = scheduler.0.kill();
        return Ok(Err(format!(
            "{}no end within {PATIENCE:?}",
            said_by(&mut scheduler)
        )));
    };
    let said = said_by(&mut scheduler);
    if status.success() && as_it_should(&said) {
        return Ok(Ok(()));
    }
    Ok(Err(format!("{said}{status}")))
}

/// Where a nats-server says on which port it listens.
fn ports_file(nats_server: &Path, running: &Running) -> String {
    let name = nats_server.file_name().unwrap_or_default();
    format!("{}_{}.ports", name.to_string_lossy(), running.0.id())
}

fn url_in(ports: &Path) -> Option<String> {
    let text = std::fs::read(ports).ok()?;
    let listens: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let url = listens.get("nats")?.get(0)?.as_str()?;
    Some(url.to_owned())
}

/// All say the same: a host joined, the workload is running, the workload is gone.
fn as_it_should(said: &str) -> bool {
    let lines: Vec<&str> = said.lines().collect();
    matches!(
        lines.as_slice(),
        [joined, started, .., gone]
            if joined.contains(" joined as ")
                && started.starts_with("demo-1 is ")
                && started.ends_with("RUNNING")
                && *gone == "demo-1 is gone"
    )
}

fn program(root: &Path, words: &[PathBuf], url: &str) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map(PathBuf::as_path).unwrap_or(root));
    command.args(words).arg(url);
    command.env("PYTHONPATH", root.join(python::DIR).join("src"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn begin(command: &mut Command) -> Result<Running, MatrixError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Running::begin(command).map_err(|source| MatrixError::Program { program, source })
}

/// What a program has said. A few lines, which a pipe holds until they are read.
fn said_by(running: &mut Running) -> String {
    let mut said = String::new();
    if let Some(stdout) = &mut running.0.stdout {
        let _ = stdout.read_to_string(&mut said);
    }
    said
}

/// Why the pairs could not be run.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// There is nowhere to put programs.
    #[error("there is no temporary directory")]
    Directory(#[source] std::io::Error),
    /// A language is missing.
    #[error("the examples of a language cannot be had")]
    Language(#[from] BindingsError),
    /// A program cannot be run.
    #[error("{program} cannot be run")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program cannot be waited for.
    #[error("a program cannot be waited for")]
    Wait(#[source] std::io::Error),
    /// A thread of this program died.
    #[error("a pair could not be watched")]
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_languages_spell_it_in_their_own_way() {
        let said =
            |first: &str| format!("minimal-7 joined as h\ndemo-1 is {first}\ndemo-1 is gone\n");
        assert!(as_it_should(&said("RUNNING")));
        assert!(as_it_should(&said("WORKLOAD_STATE_RUNNING")));
        assert!(!as_it_should(&said("ERROR")));
        assert!(!as_it_should("minimal-7 joined as h\ndemo-1 is RUNNING\n"));
        assert!(!as_it_should(""));
    }
}
