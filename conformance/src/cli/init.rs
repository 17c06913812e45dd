//! `init`: writes an example target file.

use std::path::PathBuf;

use clap::Args;

use super::{USAGE, complain_of, say};
use crate::host::target::file as host;
use crate::scheduler::target::file as scheduler;

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(default_value = "target.toml", value_name = "FILE")]
    file: PathBuf,
    /// For a scheduler instead of a host
    #[arg(long)]
    scheduler: bool,
}

/// Runs `init`. A file that is there already is left alone.
pub fn run(arguments: &InitArgs) -> u8 {
    use std::io::Write as _;
    let path = arguments.file.display();
    let (example, side) = match arguments.scheduler {
        true => (scheduler::EXAMPLE, "scheduler"),
        false => (host::EXAMPLE, "host"),
    };
    let created = std::fs::File::create_new(&arguments.file);
    match created.and_then(|mut file| file.write_all(example.as_bytes())) {
        Ok(()) => {
            say(&format!(
                "wrote {path}; now: berth-conformance {side} --target {path}\n"
            ));
            0
        }
        Err(error) => complain_of(&format!("{path} cannot be written: {error}"), USAGE),
    }
}
