//! Graceful shutdown on SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `shutdown` on the first SIGTERM or SIGINT. A second one exits immediately.
///
/// # Errors
///
/// Fails if signal handlers cannot be installed.
pub fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut received = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = received().await;
        tracing::info!(signal, "shutting down");
        shutdown.cancel();
        let signal = received().await;
        tracing::warn!(signal, "second signal, exiting immediately");
        std::process::exit(1);
    });
    Ok(())
}
