//! A program that ends with its owner.

use std::process::{Child, Command};

/// A child process. Dropping it kills it as abruptly as can be, which a frozen one obeys, too, and waits for its end.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Runs a command.
    pub(crate) fn begin(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
