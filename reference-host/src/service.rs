//! Runs the service of a workload, restarts it after failures, and reports its state. The
//! workload's endpoint is open only while the service runs.

use std::sync::Arc;
use std::time::Duration;

use berth_sdk::host::StatusReporter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{RunFailure, Runnable};
use crate::fault_injection::Breakage;
use crate::http_endpoint::{DRAIN_TIME, HttpEndpoint};
use crate::restart::{RestartBudget, RestartDecision};

/// The service of a workload.
pub struct Service {
    /// Component to run.
    pub runnable: Runnable,
    /// Restarts that the workload allows, and their backoff.
    pub restarts: RestartBudget,
    /// Reports the state of the workload.
    pub reporter: StatusReporter,
    /// Message while the service runs.
    pub running: String,
    /// Endpoint of the workload, already open when [`run`](Self::run) is called.
    pub endpoint: Arc<HttpEndpoint>,
    /// Cancelled when the workload is being stopped: a run that ends is the last one.
    pub stopping: CancellationToken,
}

impl Service {
    /// Runs the service to its final state, COMPLETED or ERROR.
    ///
    /// Cancel safety: dropping the future ends the guest and prevents further runs (HOST-SVC-017).
    /// The endpoint stays as it is.
    pub async fn run(mut self) {
        loop {
            self.reporter.running(self.running.as_str());
            let started = Instant::now();
            let Err(failure) = self.runnable.run().await else {
                // The service did what it was for, and so may the requests in flight.
                self.close_endpoint(DRAIN_TIME).await;
                self.reporter.completed("the service completed");
                return;
            };
            match self.restarts.on_failure(started.elapsed(), rand::random()) {
                RestartDecision::GiveUp => return self.give_up(&failure).await,
                RestartDecision::Restart { after, number } => {
                    self.reporter
                        .starting(self.restart_message(&failure, after, number));
                    if !self.waits_for_restart(after).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the next run, with the endpoint suspended. Returns false if the workload is being
    /// stopped instead (HOST-SVC-017).
    async fn waits_for_restart(&self, after: Duration) -> bool {
        let waited = async {
            if Breakage::NoRouteBetweenRuns.is_on() {
                self.endpoint.close(Duration::ZERO).await;
            } else {
                self.endpoint.suspend(Duration::ZERO).await;
            }
            tokio::time::sleep(after).await;
        };
        if self.stopping.run_until_cancelled(waited).await.is_none() {
            return false;
        }
        self.endpoint.open();
        true
    }

    async fn give_up(&self, failure: &RunFailure) {
        self.close_endpoint(Duration::ZERO).await;
        let restarts = self.restarts.allowed();
        self.reporter.failed(format!(
            "the service failed and its {restarts} restarts are used up: {failure}"
        ));
    }

    fn restart_message(&self, failure: &RunFailure, after: Duration, number: u32) -> String {
        let (allowed, after_ms) = (self.restarts.allowed(), after.as_millis());
        format!("the service failed: {failure}; restart {number} of {allowed} in {after_ms} ms")
    }

    async fn close_endpoint(&self, drain: Duration) {
        if Breakage::RoutesOutliveService.is_on() {
            return self.endpoint.leak();
        }
        self.endpoint.close(drain).await;
    }
}
