//! Command line: subcommands, flags and exit codes.

mod explain;
mod fleet;
mod host;
mod init;
mod list;
mod model;
mod playground;
mod run_args;
mod scheduler;
mod selftest;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Exit code of invalid usage.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a failure of the suite or its environment.
pub const EXIT_ERROR: u8 = 3;

/// Judge hosts and schedulers by the wasmCloud v2 host control protocol, as black boxes over NATS
#[derive(Debug, Parser)]
#[command(name = "berth-conformance", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 conformant, 1 not conformant, 2 invalid usage, 3 failure of the \
suite or its environment, 4 nothing selected, 5 inconclusive or not fully measured."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a host [default target: `berth-host`]
    Host(host::HostArgs),
    /// Judge a scheduler with a fleet of simulated hosts [default target: `berth-scheduler`]
    Scheduler(scheduler::SchedulerArgs),
    /// Run simulated hosts on a broker, for manual tests of a scheduler
    Fleet(fleet::FleetArgs),
    /// List requirements, checks, roles or mutants
    List(list::ListArgs),
    /// Explain a requirement, a check, a role or a profile
    Explain(explain::ExplainArgs),
    /// Verify that broker, target and images work, without running checks
    Doctor(host::DoctorArgs),
    /// Write an example target file
    Init(init::InitArgs),
    /// Serve a broker and a registry with images, for manual tests of a host or a scheduler
    Playground(playground::PlaygroundArgs),
    /// Verify that the checks can fail: run them on targets with one fault each
    Selftest(selftest::SelftestArgs),
    /// Run the model host that `selftest` judges
    #[command(hide = true)]
    ModelHost(model::ModelHostArgs),
    /// Run the model scheduler that `selftest` judges
    #[command(hide = true)]
    ModelScheduler(model::ModelSchedulerArgs),
    /// Run a guest that a faulty model host leaves running
    #[command(hide = true)]
    ModelGuest(model::ModelGuestArgs),
}

/// Runs a command line. Requires a Tokio runtime.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output needs no message.
            let _ = error.print();
            let is_request = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return ExitCode::from(if is_request { 0 } else { EXIT_USAGE });
        }
    };
    let code = match cli.command {
        Command::Host(arguments) => host::run(arguments).await,
        Command::Scheduler(arguments) => scheduler::run(arguments).await,
        Command::Fleet(arguments) => fleet::run(arguments).await,
        Command::List(arguments) => list::list(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Doctor(arguments) => host::doctor(arguments).await,
        Command::Init(arguments) => init::run(&arguments),
        Command::Playground(arguments) => playground::run(arguments).await,
        Command::Selftest(arguments) => selftest::run(arguments).await,
        Command::ModelHost(arguments) => model::host(arguments).await,
        Command::ModelScheduler(arguments) => model::scheduler(arguments).await,
        Command::ModelGuest(arguments) => model::guest(arguments).await,
    };
    ExitCode::from(code)
}

/// Prints an error with its causes and returns the exit code.
fn fail(error: &dyn std::error::Error, code: u8) -> u8 {
    fail_with(&crate::check::outcome::error_chain(error), code)
}

/// Prints an error message and returns the exit code.
fn fail_with(message: &str, code: u8) -> u8 {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "error: {}",
        crate::report::text::clean(message)
    );
    code
}

/// Prints to standard output. A closed output is not an error.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
