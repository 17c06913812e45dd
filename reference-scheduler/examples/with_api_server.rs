//! Runs a command beside a Kubernetes API server of its own: the file to reach it is in `KUBECONFIG`, and
//! stands for `{kubeconfig}` in the arguments. Ends with the exit code of the command.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it serves tests, which may fail and say where"
)]

#[path = "../tests/it/api_server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod api_server;
#[path = "../tests/it/control_plane.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod control_plane;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with_api_server COMMAND [ARGUMENT]…");
        return ExitCode::from(2);
    };
    let server = api_server::ApiServer::shared();
    let kubeconfig = server.kubeconfig();
    let filled = words.map(|word| match word == "{kubeconfig}" {
        true => OsString::from(&kubeconfig),
        false => word,
    });
    let status = Command::new(&program)
        .args(filled)
        .env("KUBECONFIG", &kubeconfig)
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("{} cannot be run: {error}", program.display());
            ExitCode::from(2)
        }
    }
}
