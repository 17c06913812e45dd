//! The service of a workload on the model host, with its runs and restarts.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use tokio::time::Instant;

use super::mutant::Mutant;
use super::script::{End, Memory, Program};
use super::workload::{Claim, State, WorkloadTable};

/// Run time without a failure after which the full restart budget is restored.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Minimum backoff before a restart.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Maximum backoff before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A service that is ready to run.
#[derive(Clone, Debug)]
pub struct Service {
    /// Script of the service.
    pub program: Program,
    /// Destination of beacons, as `HOST:PORT/TOKEN`.
    pub beacon: Option<String>,
    /// Maximum number of restarts.
    pub max_restarts: u64,
}

impl Service {
    /// Creates a service from its pulled program and its part of the workload.
    #[must_use]
    pub fn new(program: Program, service: &Value) -> Self {
        let environment = service.pointer("/localResources/environment");
        let beacon = environment
            .and_then(Value::as_object)
            .and_then(|map| map.values().next());
        Self {
            program,
            beacon: beacon.and_then(Value::as_str).map(str::to_owned),
            max_restarts: service
                .get("maxRestarts")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        }
    }

    /// Runs and restarts the service until it ends or `claim` is canceled; updates `workloads`.
    pub async fn run(self, workloads: Arc<WorkloadTable>, claim: Claim, mutant: Option<Mutant>) {
        let is = |fault| mutant == Some(fault);
        let off_by_one = u64::from(is(Mutant::RestartsOffByOne));
        let budget = self.max_restarts + off_by_one;
        let (mut failures, mut memory) = (0, Memory::default());
        loop {
            let started_at = Instant::now();
            let Some(end) = self
                .run_once(&claim, &mut memory, is(Mutant::RestartReusesMemory))
                .await
            else {
                return;
            };
            let reason = match failure_reason(&end, mutant) {
                None => return complete(&workloads, &claim, mutant).await,
                Some(reason) => reason,
            };
            if is(Mutant::CrashStopsOtherServices) {
                stop_other_services(&workloads, &claim);
            }
            if started_at.elapsed() >= HEALTHY_AFTER && !is(Mutant::RestartBudgetNeverResets) {
                failures = 0;
            }
            if failures >= budget {
                return fail_permanently(&workloads, &claim, &reason, mutant).await;
            }
            failures += 1;
            if !is(Mutant::BackoffReportedAsRunning) {
                let message = format!(
                    "{reason}; restart {failures} of {} is pending",
                    self.max_restarts
                );
                workloads.set_state(&claim, State::Starting, &message);
            }
            if !self.wait_for_backoff(&claim, failures, mutant).await {
                return;
            }
            workloads.set_state(&claim, State::Running, "running again");
        }
    }

    async fn run_once(&self, claim: &Claim, memory: &mut Memory, keep_memory: bool) -> Option<End> {
        if !keep_memory {
            *memory = Memory::default();
        }
        let run = self.program.run(self.beacon.as_deref(), memory);
        claim.cancel.run_until_cancelled(run).await
    }

    /// Waits before a restart; returns `false` if the workload is stopped during the wait.
    async fn wait_for_backoff(&self, claim: &Claim, failures: u64, mutant: Option<Mutant>) -> bool {
        let delay = match mutant {
            Some(Mutant::RestartsWithoutBackoff) => Duration::from_millis(1),
            _ => backoff(failures),
        };
        let has_elapsed = claim
            .cancel
            .run_until_cancelled(tokio::time::sleep(delay))
            .await
            .is_some();
        if !has_elapsed && mutant == Some(Mutant::StopKeepsPendingRestart) {
            tokio::time::sleep(delay).await;
            self.program
                .run(self.beacon.as_deref(), &mut Memory::default())
                .await;
        }
        has_elapsed
    }
}

fn backoff(failures: u64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(BACKOFF_MAX)
        .mul_f64(rand::rng().random_range(0.85..1.15))
}

/// Returns the reason why a run failed, or `None` if it succeeded.
fn failure_reason(end: &End, mutant: Option<Mutant>) -> Option<String> {
    match (end, mutant) {
        (End::Returned, _) => None,
        (End::Exited(0), Some(Mutant::ExitZeroIsFailure)) => Some("exit code 0".to_owned()),
        (End::Exited(0), _) | (End::Exited(_), Some(Mutant::NonzeroExitIsSuccess)) => None,
        (End::Failed, Some(Mutant::ErrorResultIsSuccess))
        | (End::Trapped, Some(Mutant::TrapIsSuccess)) => None,
        (End::Exited(code), _) => Some(format!("exit code {code}")),
        (End::Failed, _) => Some("run returned an error".to_owned()),
        (End::Trapped, _) => Some("the guest trapped".to_owned()),
    }
}

async fn complete(workloads: &WorkloadTable, claim: &Claim, mutant: Option<Mutant>) {
    if mutant == Some(Mutant::CompletedNeverReported) {
        return workloads.set_state(claim, State::Running, "running");
    }
    workloads.set_state(claim, State::Completed, "the service has succeeded");
    forget_if_mutant(workloads, claim, mutant).await;
}

async fn fail_permanently(
    workloads: &WorkloadTable,
    claim: &Claim,
    reason: &str,
    mutant: Option<Mutant>,
) {
    if mutant == Some(Mutant::ExhaustedReportedAsRunning) {
        return workloads.set_state(claim, State::Running, "running");
    }
    workloads.set_state(
        claim,
        State::Error,
        &format!("{reason}; no restarts are left"),
    );
    forget_if_mutant(workloads, claim, mutant).await;
}

/// Forgets the workload after half a second with `Mutant::ForgetsCompleted`.
async fn forget_if_mutant(workloads: &WorkloadTable, claim: &Claim, mutant: Option<Mutant>) {
    if mutant == Some(Mutant::ForgetsCompleted) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        workloads.forget(claim);
    }
}

fn stop_other_services(workloads: &WorkloadTable, claim: &Claim) {
    workloads.for_each(|id, entry| {
        if id != claim.id && entry.state == State::Running {
            entry.cancel.cancel();
            entry.state = State::Error;
            entry.message = "another service failed".to_owned();
        }
    });
}
