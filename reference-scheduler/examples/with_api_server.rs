//! Runs a command with its own Kubernetes API server: the path of the kubeconfig is in `KUBECONFIG`
//! and replaces `{kubeconfig}` in the arguments. Exits with the exit code of the command.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it serves tests, which may panic"
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
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with_api_server COMMAND [ARGUMENT]…");
        return ExitCode::from(2);
    };
    let server = api_server::ApiServer::shared();
    let kubeconfig = server.kubeconfig();
    let arguments = arguments.map(|argument| {
        if argument == "{kubeconfig}" {
            OsString::from(&kubeconfig)
        } else {
            argument
        }
    });
    let status = Command::new(&program)
        .args(arguments)
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
            eprintln!("cannot run {}: {error}", program.display());
            ExitCode::from(2)
        }
    }
}
