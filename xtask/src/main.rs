//! `cargo xtask`: parses the command line, runs one task, and reports its result.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::bindings::{Mode, go, python};
use xtask::independent_peers::{Selection, Side};
use xtask::tidy::Severity;

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask gen               regenerate files after a change of proto/ or the index
  cargo xtask tidy              check rules that rustfmt and clippy do not cover
  cargo xtask conformance       test the reference host, in release
  cargo xtask conformance -- --help
                                options of the suite; arguments after `--` are passed to it
  cargo xtask bench --peers     HTTP throughput compared with `wasmtime serve`
  cargo xtask bench scheduler   reaction time of the scheduler to dead, frozen and silent hosts
  cargo xtask independent-peers scheduler --only stop
                                violations of the independent scheduler whose id contains `stop`
  cargo xtask stress --runs 20  the suite on both brokers, under load; go on after an interruption
  cargo xtask test              everything, as in CI
  cargo xtask test --only Go    a single step
  BERTH_NATS_SERVER=$(cargo xtask nats-server) cargo test -p berth-sdk
                                one crate, with the tests that need a real nats-server
  KUBEBUILDER_ASSETS=$(cargo xtask kube-api) cargo test -p berth-scheduler
                                one crate, with a real Kubernetes API server

Environment variables:
  BERTH_NATS_SERVER             path of nats-server [default: from PATH, else a pinned release that
                                is built once with Go]
  KUBEBUILDER_ASSETS            directory with kube-apiserver, etcd and kubectl; missing programs
                                are built once from pinned releases with Go
  BERTH_CACHE                   directory for built programs [default: ~/.cache/berth]";

#[derive(Subcommand)]
enum Task {
    /// Generates files from proto/ and docs/spec/requirements.toml
    Gen(GenArgs),
    /// Checks dependencies between crates, the specification against its index, and the style
    Tidy,
    /// Builds the suite and the reference host in release, and tests the host
    Conformance(ConformanceArgs),
    /// Measures the HTTP throughput of the reference host, or the reactions of the reference
    /// scheduler
    Bench(BenchArgs),
    /// Provides a real nats-server for the tests and prints its path
    NatsServer,
    /// Provides a real Kubernetes API server, etcd, kubectl and helm, and prints their directory
    KubeApi,
    /// Judges the independent peers of conformance/independent/, with one violation each; uses the
    /// programs of an earlier build
    IndependentPeers(IndependentPeersArgs),
    /// Runs the suite many times on both brokers while the processors are busy; resumable
    Stress(StressArgs),
    /// Runs all steps up to the first that fails; ends with `N passed, N failed`
    Test(TestArgs),
}

#[derive(Args)]
struct TestArgs {
    /// Run only steps whose name contains this text, with the programs of an earlier build
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Args)]
struct IndependentPeersArgs {
    /// Only this peer
    #[arg(value_enum)]
    side: Option<PeerSide>,

    /// Only violations whose id contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Include violations that are listed as not caught
    #[arg(long)]
    all: bool,

    /// Print every trial with the checks that caught its violation
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PeerSide {
    Host,
    Scheduler,
}

#[derive(Args)]
struct StressArgs {
    /// Number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// Discard the log of earlier runs instead of resuming it
    #[arg(long)]
    fresh: bool,
}

#[derive(Args)]
struct GenArgs {
    /// Write nothing; fail if a file is stale
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct ConformanceArgs {
    /// Arguments of `berth-conformance host`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

#[derive(Args)]
struct BenchArgs {
    /// Subject of the measurement
    #[arg(value_enum, default_value_t = Subject::Host)]
    subject: Subject,

    /// Scheduler: include measurements that take minutes
    #[arg(long)]
    slow: bool,

    /// Scheduler: directory with the programs to measure [default: a release build]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Scheduler: run only measurements whose description contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Host: compare with `wasmtime serve` of the same release, which is built once in some minutes
    #[arg(long)]
    peers: bool,

    /// Host: arguments of the benchmark, like `--rounds 3 --seconds 2 --connections 64`
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    /// Throughput of the reference host
    Host,
    /// Reactions of the reference scheduler to faults
    Scheduler,
    /// Decisions of the scheduler's core in a large simulated fleet, and 10,000 simulated fault
    /// runs
    Simulator,
}

fn main() -> ExitCode {
    let root = repository_root();
    let result = match Cli::parse().task {
        Task::Gen(args) => generate(&root, &args),
        Task::Tidy => tidy(&root),
        Task::Conformance(args) => {
            xtask::conformance::run(&root, &args.arguments).map_err(Into::into)
        }
        Task::Bench(args) => bench(&root, args),
        Task::IndependentPeers(args) => independent_peers(&root, args),
        Task::Stress(args) => xtask::stress::run(&root, args.runs, args.fresh)
            .map(exit_code)
            .map_err(Into::into),
        Task::NatsServer => nats_server(&root),
        Task::KubeApi => kube_api(&root),
        Task::Test(args) => Ok(exit_code(xtask::test_pipeline::run(
            &root,
            args.only.as_deref(),
        ))),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprintln!("  caused by: {error}");
            cause = error.source();
        }
        ExitCode::FAILURE
    })
}

fn exit_code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn generate(root: &Path, args: &GenArgs) -> Result<ExitCode, Box<dyn Error>> {
    if !args.check {
        let outputs = xtask::r#gen::write(root)?;
        println!("gen: {} Rust files are up to date", outputs.len());
        let success = go::generate(root, Mode::Write)? && python::generate(root, Mode::Write)?;
        return Ok(exit_code(success));
    }
    let stale = xtask::r#gen::stale(root)?;
    for line in &stale {
        println!("{line}");
    }
    let fresh = go::generate(root, Mode::Check)? && python::generate(root, Mode::Check)?;
    if stale.is_empty() && fresh {
        println!("gen: all generated files are up to date");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "Generated files are stale: run `{}` and commit the result.",
        xtask::r#gen::COMMAND
    );
    Ok(ExitCode::FAILURE)
}

fn independent_peers(root: &Path, args: IndependentPeersArgs) -> Result<ExitCode, Box<dyn Error>> {
    let suite = xtask::cargo::program(root, "debug", "berth-conformance");
    let selection = Selection {
        side: args.side.map(|side| match side {
            PeerSide::Host => Side::Host,
            PeerSide::Scheduler => Side::Scheduler,
        }),
        only: args.only,
        all: args.all,
        verbose: args.verbose,
    };
    let summary = xtask::independent_peers::run(root, &suite, &selection)?;
    println!("{} passed, {} failed", summary.passed, summary.failed);
    Ok(exit_code(summary.failed == 0))
}

fn bench(root: &Path, args: BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    Ok(match args.subject {
        Subject::Host => xtask::bench::host::run(root, args.peers, &args.arguments)?,
        Subject::Scheduler => {
            let only = args.only.unwrap_or_default();
            xtask::bench::scheduler::run(root, args.programs, args.slow, &only)?
        }
        Subject::Simulator => xtask::bench::simulator::run(root)?,
    })
}

fn tidy(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let violations = xtask::tidy::check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    let failures = violations
        .iter()
        .filter(|violation| violation.severity == Severity::Failure)
        .count();
    println!(
        "tidy: {failures} errors, {} warnings",
        violations.len() - failures
    );
    Ok(exit_code(failures == 0))
}

fn nats_server(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", xtask::nats_server::obtain(root)?.display());
    Ok(ExitCode::SUCCESS)
}

fn kube_api(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", xtask::kube_api::obtain(root)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Returns the root of the checkout that this binary was built from.
fn repository_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
