//! Execution of checks of either side: order, concurrency and repetition.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::conclusion::{self, BodyEnd};
use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::{Flow, Outcome, Status};

/// Observer of the progress of a run.
pub trait Observer: Send + Sync {
    /// Called when a check starts.
    fn check_started(&self, _check: &'static CheckMeta) {}
    /// Called when a check has finished.
    fn check_finished(&self, _outcome: &Outcome) {}
}

/// Observer that does nothing.
pub struct NoObserver;

impl Observer for NoObserver {}

/// Options of the execution.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Maximum number of concurrent checks.
    pub jobs: usize,
    /// Maximum number of targets that run at the same time, besides the shared target. Each of them
    /// is launched for one check.
    pub own_targets: usize,
    /// Number of runs of each check.
    pub repeat: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Whether to record the traffic of passing checks as well.
    pub wire: bool,
    /// Whether checks must not share a target.
    pub isolated: bool,
}

/// Runs each check `options.repeat` times and returns one outcome per check, in the order of
/// `checks`.
///
/// Checks for which `exclusive` returns true run one at a time, after all others. Checks that an
/// interrupted run does not reach have the status [`Status::NotRun`].
pub async fn run_all<Fut: Future<Output = Outcome>>(
    checks: &[&'static CheckMeta],
    options: &ExecutorOptions,
    stop: &CancellationToken,
    exclusive: impl Fn(usize) -> bool,
    run_once: impl Fn(usize) -> Fut,
) -> Vec<Outcome> {
    let mut runs: Vec<usize> = (0..checks.len())
        .flat_map(|index| std::iter::repeat_n(index, options.repeat.max(1)))
        .collect();
    runs.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(options.seed));
    // Long checks start first. If one started late, the end of the run would wait for it alone. The
    // sort is stable: checks with equal budgets remain in the order of the seed.
    runs.sort_by_key(|index| {
        std::cmp::Reverse(checks.get(*index).map_or(0, |check| check.budget_s))
    });
    let (exclusive, concurrent): (Vec<_>, Vec<_>) =
        runs.into_iter().partition(|index| exclusive(*index));
    let indexed = |index: usize| {
        let outcome = run_once(index);
        async move { (index, outcome.await) }
    };
    let concurrent = stream::iter(concurrent)
        .map(indexed)
        .buffer_unordered(options.jobs.max(1));
    let exclusive = stream::iter(exclusive).then(indexed);
    let attempts = collect_until_stopped(concurrent.chain(exclusive), stop).await;
    let outcome = |(index, check): (usize, &&'static CheckMeta)| {
        let attempts_of_check = attempts.iter().filter(|(check, _)| *check == index);
        let interrupted = || {
            Outcome::new(check.id, check.covers, Status::NotRun)
                .with_reason("the run was interrupted")
        };
        conclusion::merge(
            attempts_of_check
                .map(|(_, outcome)| outcome.clone())
                .collect(),
        )
        .unwrap_or_else(interrupted)
    };
    checks.iter().enumerate().map(outcome).collect()
}

async fn collect_until_stopped<T>(
    items: impl Stream<Item = T>,
    stop: &CancellationToken,
) -> Vec<T> {
    let mut items = std::pin::pin!(items);
    let mut collected = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return collected,
            item = items.next() => match item {
                Some(item) => collected.push(item),
                None => return collected,
            },
        }
    }
}

/// Runs a body and judges the result. `evidence` and `stalled` are called after its end.
pub async fn run_body(
    check: &'static CheckMeta,
    body: impl Future<Output = Flow> + Send + 'static,
    evidence: impl Fn() -> Evidence,
    stalled: impl Fn() -> Option<Duration>,
) -> Outcome {
    let started_at = Instant::now();
    // A separate task lets checks use every core, and confines a panic to its check.
    let task = AbortOnDropHandle::new(tokio::spawn(AssertUnwindSafe(body).catch_unwind()));
    let budget = Duration::from_secs(check.budget_s);
    let end = match tokio::time::timeout(budget, task).await {
        Ok(Ok(Ok(flow))) => BodyEnd::Returned(flow),
        Ok(Ok(Err(panic))) => BodyEnd::Panicked(conclusion::panic_message(&*panic)),
        Ok(Err(error)) => BodyEnd::Panicked(error.to_string()),
        Err(_) => BodyEnd::OverBudget,
    };
    let duration = started_at.elapsed();
    let outcome = conclusion::judge(check, end, &evidence(), stalled());
    Outcome {
        duration,
        ..outcome
    }
}
