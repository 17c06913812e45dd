//! `cargo xtask`: parses the command line, runs one chore, reports how it ended.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The chores of this repository"
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Makes the generated files from proto/ and docs/spec/requirements.toml
    Gen(GenArgs),
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
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
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
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "Generated files are stale: run `{}` and commit the result.",
        xtask::r#gen::COMMAND
    );
    Ok(ExitCode::FAILURE)
}

/// The checkout that this binary was built from.
fn repository_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
