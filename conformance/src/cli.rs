//! The command line: what was asked, and the exit code of the answer.

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

/// The exit code of wrong usage.
pub const USAGE: u8 = 2;
/// The exit code of trouble with the suite or its surroundings.
pub const TROUBLE: u8 = 3;

/// Judges any host, and any scheduler, that speaks the wasmCloud v2 host-control protocol, over NATS and
/// from outside.
#[derive(Debug, Parser)]
#[command(name = "berth-conformance", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 conformant, 1 not, 2 usage or an unmatched pattern, 3 the suite or its \
surroundings, 4 nothing selected, 5 inconclusive, unstable or not fully measured."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a host; without a target: `berth-host`
    Host(host::HostArgs),
    /// Judge a scheduler with a fleet of simulated hosts; without a target: `berth-scheduler`
    Scheduler(scheduler::SchedulerArgs),
    /// Play simulated hosts on a broker, for people who develop a scheduler by hand
    Fleet(fleet::FleetArgs),
    /// List requirements, checks, roles or mutants
    List(list::ListArgs),
    /// Explain a requirement or a check: the sentence, why it is there, what shows that it can fail
    Explain(list::ExplainArgs),
    /// Look whether broker, target and images are in order, and judge nothing
    Doctor(host::DoctorArgs),
    /// Write an example target.toml
    Init(init::InitArgs),
    /// Serve a broker and a registry with images, to try a host or a scheduler by hand
    Playground(playground::PlaygroundArgs),
    /// Prove that the checks can fail: run them against hosts that are each wrong in one way
    Selftest(selftest::SelftestArgs),
    /// Be the model host that `selftest` judges
    #[command(hide = true)]
    ModelHost(model::ModelHostArgs),
    /// Be the model scheduler that `selftest` judges
    #[command(hide = true)]
    ModelScheduler(model::ModelSchedulerArgs),
    /// Be a guest that a faulty model host leaves behind
    #[command(hide = true)]
    ModelGuest(model::ModelGuestArgs),
}

/// Runs a command line. Needs a runtime.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads what cannot be printed.
            let _ = error.print();
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    let code = match cli.command {
        Command::Host(arguments) => host::run(arguments).await,
        Command::Scheduler(arguments) => scheduler::run(arguments).await,
        Command::Fleet(arguments) => fleet::run(arguments).await,
        Command::List(arguments) => list::list(&arguments),
        Command::Explain(arguments) => list::explain(&arguments),
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

/// Says what is wrong and returns the code.
fn complain(error: &dyn std::error::Error, code: u8) -> u8 {
    complain_of(&crate::check::outcome::chain(error), code)
}

fn complain_of(text: &str, code: u8) -> u8 {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "error: {}",
        crate::report::text::clean(text)
    );
    code
}

/// Prints to standard output. A reader that went away ends nothing.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
