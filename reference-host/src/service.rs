//! Runs the service of a workload, again and again as its restarts allow, and tells what becomes of
//! it. The components of the workload share its fate.

use std::sync::Arc;
use std::time::Duration;

use berth_sdk::host::Reporter;
use tokio::time::Instant;

use crate::breakage::Breakage;
use crate::components::Components;
use crate::engine::{Runnable, Unsuccessful};
use crate::restart::{Restarts, Verdict};

/// A service that is to run.
pub struct Service {
    /// What runs.
    pub runnable: Runnable,
    /// How often it may be restarted.
    pub restarts: Restarts,
    /// Who is told.
    pub reporter: Reporter,
    /// What goes up and down with it; they are up when the service begins.
    pub components: Arc<Components>,
}

impl Service {
    /// Runs the service to its final end, COMPLETED or ERROR.
    ///
    /// Cancel safety: dropping the future ends the guest and prevents every further run
    /// (HOST-SVC-017); the components stay as they are.
    pub async fn run(mut self) {
        loop {
            self.reporter.running("the service runs");
            let started = Instant::now();
            let Err(reason) = self.runnable.run().await else {
                self.end_components().await;
                self.reporter.completed("the service ended well");
                return;
            };
            match self.restarts.run_failed(started.elapsed(), rand::random()) {
                Verdict::GiveUp => return self.give_up(&reason).await,
                Verdict::Restart { after, number } => {
                    self.reporter
                        .starting(self.next_run(&reason, after, number));
                    self.components.take_down().await;
                    tokio::time::sleep(after).await;
                    self.components.bring_up();
                }
            }
        }
    }

    async fn give_up(&self, reason: &Unsuccessful) {
        self.end_components().await;
        let restarts = self.restarts.allowed();
        self.reporter.failed(format!(
            "the service failed and its {restarts} restarts are used up: {reason}"
        ));
    }

    fn next_run(&self, reason: &Unsuccessful, after: Duration, number: u32) -> String {
        let (allowed, after_ms) = (self.restarts.allowed(), after.as_millis());
        format!("the service failed: {reason}; restart {number} of {allowed} in {after_ms} ms")
    }

    async fn end_components(&self) {
        if Breakage::RoutesOutliveService.is_on() {
            return self.components.leak();
        }
        self.components.take_down().await;
    }
}
