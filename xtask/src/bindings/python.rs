//! The SDK for Python, with pinned development tools in a virtual environment in the cache.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::{BindingsError, Mode, Runner, Tools, command_line};
use crate::cache;

/// Directory of the SDK.
pub(crate) const DIR: &str = "bindings-python";

/// File with the pinned tools and their hashes.
const PINS_FILE: &str = "requirements-dev.txt";

/// File that marks a complete environment.
const COMPLETE_MARKER: &str = "complete";

/// Writes or checks the generated messages. Returns whether they are up to date.
///
/// # Errors
///
/// When Python cannot be run, or its tools cannot be installed.
pub fn generate(root: &Path, mode: Mode) -> Result<bool, BindingsError> {
    let python = interpreter(root)?;
    let mut arguments = vec!["tools/generate.py"];
    if mode == Mode::Check {
        arguments.push("--check");
    }
    runner(root).run_all(&[(&python, &arguments)])
}

/// Checks format, lints, types, and all tests, including the conformance tests of the examples.
/// Returns whether everything passed.
///
/// # Errors
///
/// When Python cannot be run, or its tools cannot be installed.
pub fn test(root: &Path, tools: Tools<'_>) -> Result<bool, BindingsError> {
    let python = interpreter(root)?;
    let mut runner = runner(root);
    runner.environment = vec![
        ("BERTH_NATS_SERVER", tools.nats_server.as_os_str()),
        ("BERTH_CONFORMANCE", tools.suite.as_os_str()),
        ("BERTH_HOST", tools.host.as_os_str()),
    ];
    runner.run_all(&[
        (&python, &["-m", "ruff", "format", "--check"]),
        (&python, &["-m", "ruff", "check"]),
        (&python, &["-m", "mypy"]),
        (&python, &["-m", "pytest"]),
        (&python, &["-m", "pytest", "conformance"]),
    ])
}

/// Returns the interpreter of the environment with the pinned tools.
///
/// # Errors
///
/// When Python cannot be run, or its tools cannot be installed.
pub fn interpreter(root: &Path) -> Result<PathBuf, BindingsError> {
    Ok(environment(root)?.join("bin/python"))
}

/// Returns the environment with the pinned tools; creates it if it does not exist.
fn environment(root: &Path) -> Result<PathBuf, BindingsError> {
    let pins = root.join(DIR).join(PINS_FILE);
    let file_error = |path: &Path| {
        let path = path.to_path_buf();
        |source| BindingsError::File { path, source }
    };
    let mut hasher = DefaultHasher::new();
    std::fs::read(&pins)
        .map_err(file_error(&pins))?
        .hash(&mut hasher);
    let dir = cache::dir()?.join(format!("python-{:016x}", hasher.finish()));
    let complete = dir.join(COMPLETE_MARKER);
    if complete.is_file() {
        return Ok(dir);
    }
    eprintln!(
        "python: installing the pinned tools into {} (once)",
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
        PINS_FILE,
    ];
    let create = ["-m", "venv", "--clear", &venv];
    for (program, arguments) in [(Path::new("python3"), &create[..]), (&python, &pip[..])] {
        if !runner.run(program, arguments)?.success() {
            let command = command_line(program, arguments);
            return Err(BindingsError::Install { command });
        }
    }
    std::fs::write(&complete, "").map_err(file_error(&complete))?;
    Ok(dir)
}

fn runner(root: &Path) -> Runner<'static> {
    Runner {
        dir: root.join(DIR),
        hint: "install Python 3.11 or later with its venv module",
        environment: Vec::new(),
    }
}
