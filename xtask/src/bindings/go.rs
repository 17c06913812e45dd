//! The SDK for Go.

use std::path::Path;

use super::{BindingsError, Mode, Runner, Tools};

/// Directory of the SDK.
const DIR: &str = "bindings-go";

/// Disables Go's cache of test results: it does not notice changes of the suite, the vectors or the
/// documents, because they are outside the module.
const NO_CACHE: &str = "-count=1";

/// Writes or checks the generated messages and stubs. Returns whether they are up to date.
///
/// # Errors
///
/// When Go cannot be run.
pub fn generate(root: &Path, mode: Mode) -> Result<bool, BindingsError> {
    let mut arguments = vec!["-C", "internal/gen", "run", "."];
    if mode == Mode::Check {
        arguments.push("-check");
    }
    runner(root).run_all(&[(go(), &arguments)])
}

/// Checks format, vet, and all tests with the race detector, including the conformance tests of the
/// examples. Returns whether everything passed.
///
/// # Errors
///
/// When Go cannot be run.
pub fn test(root: &Path, tools: Tools<'_>) -> Result<bool, BindingsError> {
    let mut runner = runner(root);
    runner.environment = vec![
        ("BERTH_NATS_SERVER", tools.nats_server.as_os_str()),
        ("BERTH_CONFORMANCE", tools.suite.as_os_str()),
        ("BERTH_HOST", tools.host.as_os_str()),
    ];
    runner.run_all(&[
        (
            Path::new("sh"),
            &[
                "-c",
                "stale=$(gofmt -l .); echo \"$stale\"; test -z \"$stale\"",
            ],
        ),
        (go(), &["vet", "./..."]),
        (go(), &["test", "-race", NO_CACHE, "./..."]),
        (go(), &["-C", "internal/gen", "test", NO_CACHE, "./..."]),
        (
            go(),
            &["-C", "grpc", "vet", "-tags", "conformance", "./..."],
        ),
        (
            go(),
            &[
                "-C",
                "grpc",
                "test",
                "-race",
                NO_CACHE,
                "-tags",
                "conformance",
                "./...",
            ],
        ),
        (
            go(),
            &["-C", "tests", "vet", "-tags", "conformance", "./..."],
        ),
        (
            go(),
            &[
                "-C",
                "tests",
                "test",
                "-race",
                NO_CACHE,
                "-tags",
                "conformance",
                "./...",
            ],
        ),
    ])
}

/// Builds a program of the module into a directory, named after its package.
///
/// # Errors
///
/// When Go cannot be run, or the program does not compile.
pub fn build(root: &Path, package: &str, into: &Path) -> Result<(), BindingsError> {
    let into = format!("{}/", into.display());
    let arguments = ["build", "-o", &into, package];
    if runner(root).run_all(&[(go(), &arguments)])? {
        return Ok(());
    }
    let command = super::command_line(go(), &arguments);
    Err(BindingsError::Install { command })
}

fn go() -> &'static Path {
    Path::new("go")
}

fn runner(root: &Path) -> Runner<'static> {
    Runner {
        dir: root.join(DIR),
        hint: "install Go, see https://go.dev",
        environment: Vec::new(),
    }
}
