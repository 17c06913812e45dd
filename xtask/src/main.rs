//! `cargo xtask`: parses the command line, runs one chore, reports how it ended.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
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
  cargo xtask tidy              check what rustfmt and clippy do not know";

#[derive(Subcommand)]
enum Chore {
    /// Makes the generated files from proto/ and docs/spec/requirements.toml
    Gen(GenArgs),
    /// Checks the edges between crates, the specification against its index, and the style
    Tidy,
}

#[derive(Args)]
struct GenArgs {
    /// Writes nothing; fails when a file is stale
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let root = repository_root();
    let outcome = match Cli::parse().chore {
        Chore::Gen(args) => generate(&root, &args),
        Chore::Tidy => tidy(&root),
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
        println!("gen: {} files are fresh", outputs.len());
        return Ok(ExitCode::SUCCESS);
    }
    let stale = xtask::r#gen::stale(root)?;
    for line in &stale {
        println!("{line}");
    }
    if stale.is_empty() {
        println!("gen: every generated file is fresh");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "Generated files are stale: run `{}` and commit the result.",
        xtask::r#gen::COMMAND
    );
    Ok(ExitCode::FAILURE)
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

/// The checkout that this binary was built from.
fn repository_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
