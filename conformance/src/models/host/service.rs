//! The service of a workload on the model host: its runs, its restarts, its end.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use tokio::time::Instant;

use super::mutant::Mutant;
use super::script::{End, Memory, Program};
use super::workload::{Claim, State, Table};

/// Health after which the whole budget is there again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The first wait before a restart.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A service that is ready to run.
#[derive(Clone, Debug)]
pub struct Service {
    /// What it runs.
    pub program: Program,
    /// Where its beacons go.
    pub beacon: Option<String>,
    /// How often it may be restarted.
    pub max_restarts: u64,
}

impl Service {
    /// The service part of a workload, around the program that was pulled for it.
    #[must_use]
    pub fn new(program: Program, service: &Value) -> Self {
        let environment = service.pointer("/localResources/environment");
        let first = environment
            .and_then(Value::as_object)
            .and_then(|map| map.values().next());
        Self {
            program,
            beacon: first.and_then(Value::as_str).map(str::to_owned),
            max_restarts: service
                .get("maxRestarts")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        }
    }

    /// Runs until it ends for good or its claim is cancelled, reporting to `table`.
    pub async fn live(self, table: Arc<Table>, claim: Claim, mutant: Option<Mutant>) {
        let is = |fault| mutant == Some(fault);
        let off_by_one = u64::from(is(Mutant::RestartsOffByOne));
        let budget = self.max_restarts + off_by_one;
        let (mut failures, mut memory) = (0, Memory::default());
        loop {
            let began = Instant::now();
            let Some(end) = self
                .run_once(&claim, &mut memory, is(Mutant::RestartReusesMemory))
                .await
            else {
                return;
            };
            let reason = match verdict(&end, mutant) {
                None => return complete(&table, &claim, mutant).await,
                Some(reason) => reason,
            };
            if is(Mutant::CrashStopsNeighbours) {
                stop_neighbours(&table, &claim);
            }
            if began.elapsed() >= HEALTHY_AFTER && !is(Mutant::BudgetNeverResets) {
                failures = 0;
            }
            if failures >= budget {
                return exhaust(&table, &claim, &reason, mutant).await;
            }
            failures += 1;
            if !is(Mutant::RestartHidesStarting) {
                let next = format!(
                    "{reason}; restart {failures} of {} follows",
                    self.max_restarts
                );
                table.settle(&claim, State::Starting, &next);
            }
            if !self.wait(&claim, failures, mutant).await {
                return;
            }
            table.settle(&claim, State::Running, "running again");
        }
    }

    async fn run_once(&self, claim: &Claim, memory: &mut Memory, keep: bool) -> Option<End> {
        if !keep {
            *memory = Memory::default();
        }
        let run = self.program.run(self.beacon.as_deref(), memory);
        claim.cancel.run_until_cancelled(run).await
    }

    /// Waits before a restart; false when the workload was stopped meanwhile.
    async fn wait(&self, claim: &Claim, failures: u64, mutant: Option<Mutant>) -> bool {
        let wait = match mutant {
            Some(Mutant::RestartsWithoutBackoff) => Duration::from_millis(1),
            _ => backoff(failures),
        };
        let slept = claim
            .cancel
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_some();
        if !slept && mutant == Some(Mutant::StopForgetsPendingRestart) {
            tokio::time::sleep(wait).await;
            self.program
                .run(self.beacon.as_deref(), &mut Memory::default())
                .await;
        }
        slept
    }
}

fn backoff(failures: u64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(BACKOFF_MAX)
        .mul_f64(rand::rng().random_range(0.85..1.15))
}

/// Why a run failed, or nothing when it ended well.
fn verdict(end: &End, mutant: Option<Mutant>) -> Option<String> {
    match (end, mutant) {
        (End::Returned, _) => None,
        (End::Exited(0), Some(Mutant::ExitZeroIsFailure)) => Some("exited with code 0".to_owned()),
        (End::Exited(0), _) | (End::Exited(_), Some(Mutant::ExitOneIsSuccess)) => None,
        (End::Failed, Some(Mutant::ErrorResultIsSuccess))
        | (End::Trapped, Some(Mutant::TrapIsSuccess)) => None,
        (End::Exited(code), _) => Some(format!("exited with code {code}")),
        (End::Failed, _) => Some("run returned an error".to_owned()),
        (End::Trapped, _) => Some("trapped".to_owned()),
    }
}

async fn complete(table: &Table, claim: &Claim, mutant: Option<Mutant>) {
    if mutant == Some(Mutant::CompletedNeverReported) {
        return table.settle(claim, State::Running, "running");
    }
    table.settle(claim, State::Completed, "the service ended well");
    forget_soon(table, claim, mutant).await;
}

async fn exhaust(table: &Table, claim: &Claim, reason: &str, mutant: Option<Mutant>) {
    if mutant == Some(Mutant::ExhaustedReadsRunning) {
        return table.settle(claim, State::Running, "running");
    }
    table.settle(
        claim,
        State::Error,
        &format!("{reason}; no restarts are left"),
    );
    forget_soon(table, claim, mutant).await;
}

async fn forget_soon(table: &Table, claim: &Claim, mutant: Option<Mutant>) {
    if mutant == Some(Mutant::CompletedIsForgotten) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        table.forget(claim);
    }
}

fn stop_neighbours(table: &Table, claim: &Claim) {
    table.each(|id, entry| {
        if id != claim.id && entry.state == State::Running {
            entry.cancel.cancel();
            entry.state = State::Error;
            entry.message = "a neighbour crashed".to_owned();
        }
    });
}
