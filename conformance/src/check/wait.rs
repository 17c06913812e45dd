//! The three ways to wait: eventually, consistently and never. Checks never sleep for a fixed time.

use std::future::Future;
use std::time::{Duration, Instant};

use super::check_run::{CheckRun, static_requirement};
use super::outcome::Blocked;
use crate::spec::deadlines::Deadline;
use crate::spec::requirements::Requirement;

/// Pause after the first probe; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between probes, so long that sixteen concurrent checks leave most of the CPU to
/// the target.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl From<Deadline> for Duration {
    fn from(deadline: Deadline) -> Duration {
        deadline.limit
    }
}

/// Result of a wait, for [`Claim::met`](crate::check::claim::Claim::met), which judges it, or
/// [`Waited::or_blocked`], which needs its value.
#[derive(Debug)]
#[must_use = "a wait proves nothing until a claim judges it"]
pub struct Waited<T> {
    /// Condition that was waited for.
    pub description: String,
    /// Observed value, or the reason why the condition was missed.
    pub result: Result<T, Missed>,
    /// Length of the wait.
    pub elapsed: Duration,
    /// Length of a stall of the machine during the wait, if so long that a missed condition proves
    /// nothing.
    pub stalled: Option<Duration>,
}

/// Condition that was not met within the time limit.
#[derive(Clone, Debug)]
pub struct Missed {
    /// Time limit: `within 5.0 s`, or `for 2.0 s`.
    pub within: String,
    /// Observed state.
    pub actual: String,
}

/// Observed state that does not meet the condition.
#[derive(Clone, Debug)]
pub(crate) enum ProbeError {
    /// The condition may still be met.
    Pending(String),
    /// The condition can no longer be met.
    Unreachable(String),
}

impl<T> Waited<T> {
    /// Returns whether the condition was met.
    pub fn is_met(&self) -> bool {
        self.result.is_ok()
    }

    /// Returns the observed value of a wait that is only a precondition of the check.
    ///
    /// # Errors
    /// Fails if the condition was missed, which violates the requirement `violated`.
    pub fn or_blocked(
        self,
        on: &impl AsRef<CheckRun>,
        violated: Requirement,
    ) -> Result<T, Blocked> {
        let (description, stalled) = (self.description, self.stalled);
        self.result.map_err(|missed| Blocked::Precondition {
            violated: static_requirement(violated),
            expectation: format!("{description} {}", missed.within),
            actual: missed.actual,
            culprit_frame: on.as_ref().evidence.latest_inbox(),
            stalled,
        })
    }
}

impl CheckRun {
    /// Repeats the probe until it returns `Ok`, at most for `within`, the suite's patience and the
    /// length of any stall of the machine. The probe returns the observed state as `Err`.
    pub async fn eventually<T, F, Fut>(
        &self,
        within: impl Into<Duration>,
        description: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.poll(within.into(), description, || {
            let observed = probe();
            async move { observed.await.map_err(ProbeError::Pending) }
        })
        .await
    }

    /// Like [`CheckRun::eventually`], with a probe that can also end the wait early.
    pub(crate) async fn poll<T, F, Fut>(
        &self,
        limit: Duration,
        description: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ProbeError>>,
    {
        let started_at = Instant::now();
        let time_limit = limit + self.patience();
        self.evidence.set_waiting_for(Some(description));
        let mut pause = FIRST_PAUSE;
        let result = loop {
            // A probe that started in time counts, however long it takes on a busy machine.
            let observed = probe().await;
            match observed {
                Ok(value) => break Ok(value),
                Err(ProbeError::Unreachable(actual)) => {
                    let within = format!("within {}", seconds(limit));
                    break Err(Missed { within, actual });
                }
                Err(ProbeError::Pending(actual))
                    if started_at.elapsed()
                        >= time_limit + self.patience.clock.stall_time_since(started_at) =>
                {
                    break Err(Missed {
                        within: format!("within {}", seconds(limit)),
                        actual,
                    });
                }
                Err(ProbeError::Pending(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        self.waited(description, started_at, result)
    }

    /// Repeats the probe for the whole window; it must return `Ok` every time.
    pub async fn consistently<T, F, Fut>(
        &self,
        window: impl Into<Duration>,
        description: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        let (started_at, window) = (Instant::now(), window.into());
        self.evidence.set_waiting_for(Some(description));
        let result = loop {
            match probe().await {
                Err(actual) => {
                    let at = seconds(started_at.elapsed());
                    let within = format!("for {}", seconds(window));
                    break Err(Missed {
                        within,
                        actual: format!("{actual} (after {at})"),
                    });
                }
                Ok(value) if started_at.elapsed() >= window => break Ok(value),
                Ok(_) => {}
            }
            tokio::time::sleep(LONGEST_PAUSE.min(window.saturating_sub(started_at.elapsed())))
                .await;
        };
        self.waited(description, started_at, result)
    }

    /// Repeats the probe for the whole window; it must return `None` every time.
    pub async fn never<F, Fut>(
        &self,
        window: impl Into<Duration>,
        description: &str,
        mut probe: F,
    ) -> Waited<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<String>>,
    {
        self.consistently(window, &format!("never: {description}"), || {
            let observed = probe();
            async move { observed.await.map_or(Ok(()), Err) }
        })
        .await
    }

    fn waited<T>(
        &self,
        description: &str,
        started_at: Instant,
        result: Result<T, Missed>,
    ) -> Waited<T> {
        self.evidence.set_waiting_for(None);
        let stalled = result
            .is_err()
            .then(|| self.patience.clock.stalled_since(started_at))
            .flatten();
        Waited {
            description: description.to_owned(),
            result,
            elapsed: started_at.elapsed(),
            stalled,
        }
    }
}

/// Formats a duration as `5.0 s`, or `50 ms` below one second.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
