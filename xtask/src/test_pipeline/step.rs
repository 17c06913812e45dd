//! One step of the pipeline, its context and errors, and the commands that several steps run.

use std::path::PathBuf;
use std::process::Command;

use super::Counters;
use crate::{cargo, kube_api, nats_server};

/// State that the steps share.
#[derive(Debug)]
pub(super) struct Context {
    /// Root of the repository.
    pub(super) root: PathBuf,
    /// Path of a real nats-server, after the step that provides it.
    pub(super) nats_server: Option<PathBuf>,
    /// Directory with a real Kubernetes API server, after the step that provides it.
    pub(super) kube_api: Option<PathBuf>,
}

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Context) -> Result<Counters, StepError>,
}

/// Reason why a step could not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("cannot run {program}")]
    Program {
        program: String,
        source: std::io::Error,
    },
    #[error("cannot find a free port")]
    Port(#[source] std::io::Error),
    #[error("cannot read the output of {program}")]
    Output {
        program: String,
        source: std::io::Error,
    },
    #[error("cannot run the interop matrix")]
    Matrix(#[from] crate::interop_matrix::MatrixError),
    #[error("cannot check the generated files")]
    Gen(#[from] crate::r#gen::GenError),
    #[error("cannot read the repository")]
    Tidy(#[from] crate::tidy::TreeError),
    #[error("cannot test a language")]
    Bindings(#[from] crate::bindings::BindingsError),
    #[error("cannot provide nats-server")]
    NatsServer(#[from] crate::nats_server::NatsServerError),
    #[error("cannot provide a Kubernetes API server")]
    KubeApi(#[from] crate::kube_api::KubeApiError),
    #[error("cannot render the chart")]
    Chart(#[from] crate::chart::ChartError),
    #[error("cannot create the directory for reports")]
    Reports(#[source] std::io::Error),
    #[error("cannot copy {}", path.display())]
    Copy {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Example program that runs a command with its own API server.
const WITH_API_SERVER: &str = "examples/with_api_server";

/// Runs a command. Counts it as passed if it succeeds.
pub(super) fn run_command(command: &mut Command) -> Result<Counters, StepError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|source| StepError::Program { program, source })?;
    Ok(Counters::of(status.success()))
}

/// Returns a command of the conformance suite.
pub(super) fn suite(context: &Context, subcommand: &str) -> Command {
    let program = cargo::program(&context.root, "debug", "berth-conformance");
    let mut command = with_peers(Command::new(program), context);
    command.current_dir(&context.root).arg(subcommand);
    command.env(
        "BERTH_HOST",
        cargo::program(&context.root, "debug", "berth-host"),
    );
    command
}

/// Returns a command of the conformance suite with its own API server.
pub(super) fn suite_on_kube(context: &Context, subcommand: &str) -> Command {
    let program = |name: &str| cargo::program(&context.root, "debug", name);
    let mut command = with_peers(Command::new(program(WITH_API_SERVER)), context);
    command.arg(program("berth-conformance")).arg(subcommand);
    command
        .current_dir(&context.root)
        .env("BERTH_HOST", program("berth-host"));
    command
}

/// Passes the paths of the real nats-server and API server to a command.
pub(super) fn with_peers(mut command: Command, context: &Context) -> Command {
    if let Some(program) = &context.nats_server {
        command.env(nats_server::VARIABLE, program);
    }
    if let Some(dir) = &context.kube_api {
        command.env(kube_api::VARIABLE, dir);
    }
    command
}
