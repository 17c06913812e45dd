//! The SDK for Go.

use std::path::Path;

use super::{BindingsError, Freshness, Runner, Tools};

/// Where it is.
const DIR: &str = "bindings-go";

/// Go remembers that a test has passed, and does not see that the suite, the vectors or the documents have changed:
/// they are outside of its module.
const AFRESH: &str = "-count=1";

/// Makes or checks the generated messages and stubs. Returns whether they are fresh.
///
/// # Errors
///
/// When Go cannot be run.
pub fn generated(root: &Path, freshness: Freshness) -> Result<bool, BindingsError> {
    let mut arguments = vec!["-C", "internal/gen", "run", "."];
    if freshness == Freshness::Checked {
        arguments.push("-check");
    }
    runner(root).all(&[(go(), &arguments)])
}

/// Everything that is to be seen of it: format, vet, and all tests under the race detector, those that judge
/// its examples included. Returns whether all is well.
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
    runner.all(&[
        (
            Path::new("sh"),
            &[
                "-c",
                "stale=$(gofmt -l .); echo \"$stale\"; test -z \"$stale\"",
            ],
        ),
        (go(), &["vet", "./..."]),
        (go(), &["test", "-race", AFRESH, "./..."]),
        (go(), &["-C", "internal/gen", "test", AFRESH, "./..."]),
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
                AFRESH,
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
                AFRESH,
                "-tags",
                "conformance",
                "./...",
            ],
        ),
    ])
}

/// Builds a program of the module into a folder, under the name of its package.
///
/// # Errors
///
/// When Go cannot be run, or it does not compile.
pub fn build(root: &Path, package: &str, into: &Path) -> Result<(), BindingsError> {
    let into = format!("{}/", into.display());
    let arguments = ["build", "-o", &into, package];
    if runner(root).all(&[(go(), &arguments)])? {
        return Ok(());
    }
    let command = super::spelled(go(), &arguments);
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
