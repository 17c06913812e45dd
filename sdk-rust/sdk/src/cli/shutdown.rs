//! SIGTERM and SIGINT end a program in order.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `shutdown` at the first SIGTERM or SIGINT. At a second one, the process ends at once.
///
/// # Errors
///
/// Signals cannot be listened to.
pub fn on_signal(shutdown: CancellationToken) -> io::Result<()> {
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
        tracing::warn!(signal, "asked twice: ending at once");
        std::process::exit(1);
    });
    Ok(())
}
