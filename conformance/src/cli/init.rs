//! `init`: writes an example target file.

use std::path::PathBuf;

use clap::Args;

use super::{EXIT_USAGE, fail_with, print};
use crate::host::target::file as host;
use crate::scheduler::target::file as scheduler;

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to create
    #[arg(default_value = "target.toml", value_name = "FILE")]
    file: PathBuf,
    /// Write a target file for a scheduler instead of a host
    #[arg(long)]
    scheduler: bool,
}

/// Runs `init`. Does not overwrite an existing file.
pub fn run(arguments: &InitArgs) -> u8 {
    use std::io::Write as _;
    let path = arguments.file.display();
    let (example, side) = if arguments.scheduler {
        (scheduler::EXAMPLE, "scheduler")
    } else {
        (host::EXAMPLE, "host")
    };
    let created = std::fs::File::create_new(&arguments.file);
    match created.and_then(|mut file| file.write_all(example.as_bytes())) {
        Ok(()) => {
            print(&format!(
                "wrote {path}; now run: berth-conformance {side} --target {path}\n"
            ));
            0
        }
        Err(error) => fail_with(&format!("cannot write {path}: {error}"), EXIT_USAGE),
    }
}
