//! `init`: writes an example target file.

use std::path::PathBuf;

use clap::Args;

use super::{USAGE, complain_of, say};
use crate::target::file::EXAMPLE;

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(default_value = "target.toml", value_name = "FILE")]
    file: PathBuf,
}

/// Runs `init`. A file that is there already is left alone.
pub fn run(arguments: &InitArgs) -> u8 {
    use std::io::Write as _;
    let path = arguments.file.display();
    let created = std::fs::File::create_new(&arguments.file);
    match created.and_then(|mut file| file.write_all(EXAMPLE.as_bytes())) {
        Ok(()) => {
            say(&format!(
                "wrote {path}; now: berth-conformance host --target {path}\n"
            ));
            0
        }
        Err(error) => complain_of(&format!("{path} cannot be written: {error}"), USAGE),
    }
}
