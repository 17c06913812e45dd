//! `cargo xtask`: parses the command line, runs one chore, reports how it ended.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::bindings::{Freshness, go, python};
use xtask::tidy::Severity;

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask gen               make the generated files after a change of proto/ or the index
  cargo xtask tidy              check what rustfmt and clippy do not know
  cargo xtask conformance       judge the reference host, in release
  cargo xtask conformance -- --help
                                what the suite can be told; anything after `--` is passed on
  cargo xtask bench --peers     HTTP throughput beside `wasmtime serve`
  cargo xtask bench scheduler   how soon the scheduler acts on a dead, frozen or silent host
  cargo xtask test              everything, as CI runs it
  cargo xtask test --only gRPC  one step of it
  BERTH_NATS_SERVER=$(cargo xtask nats-server) cargo test -p berth-sdk
                                one crate, with the tests that want a real nats-server
  KUBEBUILDER_ASSETS=$(cargo xtask kube-api) cargo test -p berth-scheduler
                                the same with a real Kubernetes API server

Variables:
  BERTH_NATS_SERVER             the nats-server to test with, instead of the one on the PATH or a
                                pinned release that is built once with Go
  KUBEBUILDER_ASSETS            a folder with kube-apiserver, etcd and kubectl to test with; what it
                                lacks, all without it, is built once from pinned releases with Go
  BERTH_CACHE                   where such things are kept, instead of ~/.cache/berth";

#[derive(Subcommand)]
enum Chore {
    /// Makes the generated files from proto/ and docs/spec/requirements.toml
    Gen(GenArgs),
    /// Checks the edges between crates, the specification against its index, and the style
    Tidy,
    /// Builds the suite and the reference host in release, and judges the host
    Conformance(ConformanceArgs),
    /// Measures the HTTP throughput of the reference host, or how the reference scheduler reacts
    Bench(BenchArgs),
    /// Obtains a real nats-server for the tests and prints where it is
    NatsServer,
    /// Obtains a real Kubernetes API server, etcd, kubectl and helm, and prints the folder they are in
    KubeApi,
    /// Runs everything, up to the first step that fails; ends with `N passed, N failed`
    Test(TestArgs),
}

#[derive(Args)]
struct TestArgs {
    /// Only steps whose name contains this, with what was built before
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Args)]
struct GenArgs {
    /// Writes nothing; fails when a file is stale
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct ConformanceArgs {
    /// Passed on to `berth-conformance host`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

#[derive(Args)]
struct BenchArgs {
    /// What is measured
    #[arg(value_enum, default_value_t = Measured::Host)]
    measured: Measured,

    /// For the scheduler: also what takes minutes
    #[arg(long)]
    slow: bool,

    /// For the scheduler: the programs in this folder, instead of a release build
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// For the scheduler: only measures whose description contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// For the host: compares with `wasmtime serve` of the same release, which is built once, some minutes
    #[arg(long)]
    peers: bool,

    /// For the host: passed on to the benchmark, as `--rounds 3 --seconds 2 --connections 64`
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Measured {
    /// The throughput of the reference host
    Host,
    /// The reactions of the reference scheduler to faults
    Scheduler,
    /// The decisions of its core in a large simulated fleet, and 10,000 storms
    Simulator,
}

fn main() -> ExitCode {
    let root = repository_root();
    let outcome = match Cli::parse().chore {
        Chore::Gen(args) => generate(&root, &args),
        Chore::Tidy => tidy(&root),
        Chore::Conformance(args) => {
            xtask::conformance::run(&root, &args.arguments).map_err(Into::into)
        }
        Chore::Bench(args) => bench(&root, args),
        Chore::NatsServer => nats_server(&root),
        Chore::KubeApi => kube_api(&root),
        Chore::Test(args) => Ok(match xtask::test_run::run(&root, args.only.as_deref()) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
        ExitCode::FAILURE
    })
}

fn generate(root: &Path, args: &GenArgs) -> Result<ExitCode, Box<dyn Error>> {
    if !args.check {
        let outputs = xtask::r#gen::write(root)?;
        println!("gen: {} files of Rust are fresh", outputs.len());
        let fresh =
            go::generated(root, Freshness::Made)? && python::generated(root, Freshness::Made)?;
        return Ok(if fresh {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let stale = xtask::r#gen::stale(root)?;
    for line in &stale {
        println!("{line}");
    }
    let fresh =
        go::generated(root, Freshness::Checked)? && python::generated(root, Freshness::Checked)?;
    if stale.is_empty() && fresh {
        println!("gen: every generated file is fresh");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "Generated files are stale: run `{}` and commit the result.",
        xtask::r#gen::COMMAND
    );
    Ok(ExitCode::FAILURE)
}

fn bench(root: &Path, args: BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    Ok(match args.measured {
        Measured::Host => xtask::bench::host::run(root, args.peers, &args.arguments)?,
        Measured::Scheduler => {
            let only = args.only.unwrap_or_default();
            xtask::bench::scheduler::run(root, args.programs, args.slow, &only)?
        }
        Measured::Simulator => xtask::bench::simulator::run(root)?,
    })
}

fn tidy(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let found = xtask::tidy::check(root)?;
    for violation in &found {
        println!("{violation}");
    }
    let failures = found
        .iter()
        .filter(|one| one.severity == Severity::Failure)
        .count();
    println!(
        "tidy: {failures} errors, {} warnings",
        found.len() - failures
    );
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn nats_server(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", xtask::nats_server::obtain(root)?.display());
    Ok(ExitCode::SUCCESS)
}

fn kube_api(root: &Path) -> Result<ExitCode, Box<dyn Error>> {
    println!("{}", xtask::kube_api::obtain(root)?.display());
    Ok(ExitCode::SUCCESS)
}

/// The checkout that this binary was built from.
fn repository_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
