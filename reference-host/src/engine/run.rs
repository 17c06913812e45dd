//! Runs a component through its `wasi:cli/run`, each time in a fresh store.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::first_line;
use super::guest::{Guest, GuestFactory};

/// A component with `wasi:cli/run`. Clones are cheap.
#[derive(Clone)]
pub struct Runnable {
    pre: CommandPre<Guest>,
    factory: GuestFactory,
    /// Place among the services of the host.
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Reason why a run failed (HOST-SVC-003, HOST-SVC-004, HOST-SVC-005).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFailure {
    /// `run` returned its error.
    #[error("the run function returned an error")]
    Error,
    /// The guest exited with this code.
    #[error("exit with code {0}")]
    Exit(i32),
    /// The guest trapped, or could not be instantiated.
    #[error("{0}")]
    Trap(String),
}

impl Runnable {
    pub(super) fn new(
        pre: CommandPre<Guest>,
        factory: GuestFactory,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            pre,
            factory,
            _permit: Arc::new(permit),
        }
    }

    /// Runs the component once, until it ends.
    ///
    /// Cancel safety: dropping the future ends the guest, at the latest when it next yields.
    pub async fn run(&self) -> Result<(), RunFailure> {
        let trap = |error| RunFailure::Trap(first_line(&error));
        let mut store = self.factory.store(None).map_err(trap)?;
        let command = match self.pre.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => return exit_result(&error),
        };
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(RunFailure::Error),
            Err(error) => exit_result(&error),
        }
    }
}

fn exit_result(error: &wasmtime::Error) -> Result<(), RunFailure> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        Some(I32Exit(code)) => Err(RunFailure::Exit(*code)),
        None => Err(RunFailure::Trap(trap_text(error))),
    }
}

/// Returns the trap itself, without the multi-line backtrace around it.
fn trap_text(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => format!("wasm trap: {trap}"),
        None => first_line(error),
    }
}
