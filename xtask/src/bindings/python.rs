//! The SDK for Python, with the pinned tools of its developers in a virtual environment in the cache.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::{BindingsError, Freshness, Runner, Tools, spelled};
use crate::cache;

/// Where it is.
pub(crate) const DIR: &str = "bindings-python";

/// What is pinned, with hashes.
const PINS: &str = "requirements-dev.txt";

/// Left in an environment when everything is installed.
const COMPLETE: &str = "complete";

/// Makes or checks the generated messages. Returns whether they are fresh.
///
/// # Errors
///
/// When Python cannot be run, or its tools not be installed.
pub fn generated(root: &Path, freshness: Freshness) -> Result<bool, BindingsError> {
    let python = interpreter(root)?;
    let mut arguments = vec!["tools/generate.py"];
    if freshness == Freshness::Checked {
        arguments.push("--check");
    }
    runner(root).all(&[(&python, &arguments)])
}

/// Everything that is to be seen of it: format, lints, types, and all tests, those that judge its examples
/// included. Returns whether all is well.
///
/// # Errors
///
/// When Python cannot be run, or its tools not be installed.
pub fn test(root: &Path, tools: Tools<'_>) -> Result<bool, BindingsError> {
    let python = interpreter(root)?;
    let mut runner = runner(root);
    runner.environment = vec![
        ("BERTH_NATS_SERVER", tools.nats_server.as_os_str()),
        ("BERTH_CONFORMANCE", tools.suite.as_os_str()),
        ("BERTH_HOST", tools.host.as_os_str()),
    ];
    runner.all(&[
        (&python, &["-m", "ruff", "format", "--check"]),
        (&python, &["-m", "ruff", "check"]),
        (&python, &["-m", "mypy"]),
        (&python, &["-m", "pytest"]),
        (&python, &["-m", "pytest", "conformance"]),
    ])
}

/// The interpreter with everything that is pinned.
///
/// # Errors
///
/// When Python cannot be run, or its tools not be installed.
pub fn interpreter(root: &Path) -> Result<PathBuf, BindingsError> {
    Ok(environment(root)?.join("bin/python"))
}

/// The environment for these pins: there, or made now.
fn environment(root: &Path) -> Result<PathBuf, BindingsError> {
    let pins = root.join(DIR).join(PINS);
    let file = |path: &Path| {
        let path = path.to_path_buf();
        |source| BindingsError::File { path, source }
    };
    let mut hasher = DefaultHasher::new();
    std::fs::read(&pins).map_err(file(&pins))?.hash(&mut hasher);
    let dir = cache::dir()?.join(format!("python-{:016x}", hasher.finish()));
    let complete = dir.join(COMPLETE);
    if complete.is_file() {
        return Ok(dir);
    }
    eprintln!(
        "python: installing the pinned tools, once, into {}",
        dir.display()
    );
    let runner = runner(root);
    let (venv, python) = (dir.display().to_string(), dir.join("bin/python"));
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        PINS,
    ];
    let make = ["-m", "venv", "--clear", &venv];
    for (program, arguments) in [(Path::new("python3"), &make[..]), (&python, &pip[..])] {
        if !runner.one(program, arguments)?.success() {
            let command = spelled(program, arguments);
            return Err(BindingsError::Install { command });
        }
    }
    std::fs::write(&complete, "").map_err(file(&complete))?;
    Ok(dir)
}

fn runner(root: &Path) -> Runner<'static> {
    Runner {
        dir: root.join(DIR),
        hint: "install Python 3.11 or later with its venv module",
        environment: Vec::new(),
    }
}
