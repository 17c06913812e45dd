//! Runs everything there is to run, in order, up to the first step that fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod conformance;
mod steps;
mod tally;

pub use tally::Tally;

/// What the steps share.
#[derive(Debug)]
pub struct Setting {
    /// The repository.
    pub root: PathBuf,
    /// A real nats-server, once the step that obtains it has run.
    pub nats_server: Option<PathBuf>,
    /// The folder with a real Kubernetes API server, once the step that obtains it has run.
    pub kube_api: Option<PathBuf>,
}

/// One step: what it is called, and what it does.
struct Step {
    name: &'static str,
    run: fn(&mut Setting) -> Result<Tally, StepError>,
}

/// Runs the steps and prints, at the end, `N passed, N failed`: the tests of every crate one by one,
/// every other step as one. Returns whether all passed. With `only`, steps whose name contains it, and those
/// that obtain the programs they need.
#[must_use]
pub fn run(root: &Path, only: Option<&str>) -> bool {
    let mut setting = Setting {
        root: root.to_path_buf(),
        nats_server: None,
        kube_api: None,
    };
    let mut total = Tally::default();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut failed: Option<&str> = None;
    let mut not_run = 0;
    let wanted = |step: &Step| {
        only.is_none_or(|only| steps::OBTAINING.contains(&step.name) || step.name.contains(only))
    };
    for step in steps::STEPS.into_iter().filter(wanted) {
        if failed.is_some() {
            not_run += 1;
            continue;
        }
        println!("== {}", step.name);
        let began = Instant::now();
        let tally = (step.run)(&mut setting).unwrap_or_else(|error| {
            print_chain(&error);
            Tally::FAILED
        });
        times.push((step.name, began.elapsed()));
        total = total + tally;
        failed = (tally.failed > 0).then_some(step.name);
    }
    println!();
    for (name, time) in times {
        println!("{:>8.1} s  {name}", time.as_secs_f64());
    }
    if let Some(name) = failed {
        println!("error: the step `{name}` failed; {not_run} steps behind it were not run");
        println!("  run it alone with `cargo xtask test --only \"{name}\"`");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0
}

fn print_chain(error: &StepError) {
    println!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        println!("  because: {error}");
        cause = error.source();
    }
}

/// Why a step could not do its work.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("{program} cannot be run")]
    Program {
        program: String,
        source: std::io::Error,
    },
    #[error("there is no free port")]
    Port(#[source] std::io::Error),
    #[error("the output of {program} cannot be read")]
    Output {
        program: String,
        source: std::io::Error,
    },
    #[error("the hosts and schedulers of all languages cannot be run")]
    Matrix(#[from] crate::matrix::MatrixError),
    #[error("the generated files cannot be compared")]
    Gen(#[from] crate::r#gen::GenError),
    #[error("the repository cannot be read")]
    Tidy(#[from] crate::tidy::TreeError),
    #[error("a language cannot be looked at")]
    Bindings(#[from] crate::bindings::BindingsError),
    #[error("there is no nats-server")]
    NatsServer(#[from] crate::nats_server::NatsServerError),
    #[error("there is no Kubernetes API server")]
    KubeApi(#[from] crate::kube_api::KubeApiError),
    #[error("the chart cannot be rendered")]
    Chart(#[from] crate::chart::ChartError),
    #[error("no directory can be made for the reports")]
    Reports(#[source] std::io::Error),
    #[error("{} cannot be copied", path.display())]
    Copy {
        path: PathBuf,
        source: std::io::Error,
    },
}
