//! Runs a component by its `wasi:cli/run`, each time in a fresh store.

use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::first_line;
use super::guest::{Guest, GuestFactory};

/// A component that runs by itself; a cheap clone.
#[derive(Clone)]
pub struct Runnable {
    pre: CommandPre<Guest>,
    factory: GuestFactory,
}

/// Why a run did not end well (HOST-SVC-003, HOST-SVC-004, HOST-SVC-005).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuccessful {
    /// `run` returned its error.
    #[error("run returned an error")]
    Returned,
    /// The guest left with this code.
    #[error("exit with code {0}")]
    Exit(i32),
    /// The guest trapped, or could not be instantiated.
    #[error("{0}")]
    Trap(String),
}

impl Runnable {
    pub(super) fn new(pre: CommandPre<Guest>, factory: GuestFactory) -> Self {
        Self { pre, factory }
    }

    /// Runs it once, to its end.
    ///
    /// Cancel safety: dropping the future ends the guest, at the latest when it is made to yield.
    pub async fn run(&self) -> Result<(), Unsuccessful> {
        let trap = |error| Unsuccessful::Trap(first_line(&error));
        let mut store = self.factory.store().map_err(trap)?;
        let command = match self.pre.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => return ended_by(&error),
        };
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(Unsuccessful::Returned),
            Err(error) => ended_by(&error),
        }
    }
}

fn ended_by(error: &wasmtime::Error) -> Result<(), Unsuccessful> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        Some(I32Exit(code)) => Err(Unsuccessful::Exit(*code)),
        None => Err(Unsuccessful::Trap(trap_text(error))),
    }
}

/// The trap itself; what lies around it is a backtrace of several lines.
fn trap_text(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => format!("wasm trap: {trap}"),
        None => first_line(error),
    }
}
