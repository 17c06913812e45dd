//! In which order checks run, how many at once, and what became of each: for either side.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::conclusion;
use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::{Flow, Outcome, Status};

/// Whoever wants to know how far the run is.
pub trait Observer: Send + Sync {
    /// A check begins.
    fn began(&self, _check: &'static CheckMeta) {}
    /// A check has ended.
    fn ended(&self, _outcome: &Outcome) {}
}

/// Nobody.
pub struct NoObserver;

impl Observer for NoObserver {}

/// How to run.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// At most so many checks at once.
    pub jobs: usize,
    /// At most so many targets of checks' own at once.
    pub own_hosts: usize,
    /// How often each check runs.
    pub repeat: usize,
    /// In which order they begin.
    pub seed: u64,
}

/// Runs each case as often as asked, those that are `alone` one by one at the end; one outcome for
/// each, in their order. What an interrupted run did not get to says so.
pub async fn run_all<Fut: Future<Output = Outcome>>(
    cases: &[&'static CheckMeta],
    options: &ExecutorOptions,
    stop: &CancellationToken,
    alone: impl Fn(usize) -> bool,
    once: impl Fn(usize) -> Fut,
) -> Vec<Outcome> {
    let mut jobs: Vec<usize> = (0..cases.len())
        .flat_map(|index| std::iter::repeat_n(index, options.repeat.max(1)))
        .collect();
    jobs.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(options.seed));
    // Long ones first: the run ends when the last does, and the order among equals is the seed's.
    jobs.sort_by_key(|index| std::cmp::Reverse(cases.get(*index).map_or(0, |case| case.budget_s)));
    let (alone, together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|index| alone(*index));
    let numbered = |index: usize| {
        let outcome = once(index);
        async move { (index, outcome.await) }
    };
    let together = stream::iter(together)
        .map(numbered)
        .buffer_unordered(options.jobs.max(1));
    let alone = stream::iter(alone).then(numbered);
    let attempts = until_stopped(together.chain(alone), stop).await;
    let outcome = |(index, case): (usize, &&'static CheckMeta)| {
        let of_one = attempts.iter().filter(|(of, _)| *of == index);
        let interrupted =
            || Outcome::of(case.id, case.covers, Status::NotRun).because("the run was interrupted");
        conclusion::merge(of_one.map(|(_, outcome)| outcome.clone()).collect())
            .unwrap_or_else(interrupted)
    };
    cases.iter().enumerate().map(outcome).collect()
}

async fn until_stopped<T>(all: impl Stream<Item = T>, stop: &CancellationToken) -> Vec<T> {
    let mut all = std::pin::pin!(all);
    let mut items = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return items,
            item = all.next() => match item {
                Some(item) => items.push(item),
                None => return items,
            },
        }
    }
}

/// Runs a body and judges how it ended. `stalled` is asked afterwards.
pub async fn run_body(
    case: &'static CheckMeta,
    body: impl Future<Output = Flow> + Send + 'static,
    evidence: impl Fn() -> Evidence,
    stalled: impl Fn() -> Option<Duration>,
) -> Outcome {
    let began = Instant::now();
    // A task of its own, so that checks use every core, and a panic is one check's and not the run's.
    let task = AbortOnDropHandle::new(tokio::spawn(AssertUnwindSafe(body).catch_unwind()));
    let budget = Duration::from_secs(case.budget_s);
    let ended = match tokio::time::timeout(budget, task).await {
        Ok(Ok(Ok(flow))) => conclusion::Ended::Itself(flow),
        Ok(Ok(Err(panic))) => conclusion::Ended::Panicked(conclusion::panic_message(&*panic)),
        Ok(Err(lost)) => conclusion::Ended::Panicked(lost.to_string()),
        Err(_) => conclusion::Ended::OverBudget,
    };
    let took = began.elapsed();
    let outcome = conclusion::judge(case, ended, &evidence(), stalled());
    Outcome { took, ..outcome }
}
