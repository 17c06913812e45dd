//! Waits for a condition with a deadline.

use std::time::{Duration, Instant};

/// Interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `poll` returns a value. Returns `None` after `timeout`.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the wait for a condition that other code should use"
)]
pub(crate) fn wait_for<T>(timeout: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = poll() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
