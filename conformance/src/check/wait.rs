//! The three ways to wait: eventually, consistently, never. There is no sleep.

use std::future::Future;
use std::time::{Duration, Instant};

use super::check_run::{CheckRun, entry};
use super::outcome::Blocked;
use crate::spec::deadlines::Deadline;
use crate::spec::requirements::Requirement;

/// The first pause between two looks; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Sixteen checks that look at once still leave the machine to the host.
const LAST_PAUSE: Duration = Duration::from_millis(100);

impl From<Deadline> for Duration {
    fn from(deadline: Deadline) -> Duration {
        deadline.limit
    }
}

/// How a wait ended. Give it to [`Claim::met`](crate::check::claim::Claim::met), or go on with `or_blocked`.
#[derive(Debug)]
#[must_use = "a wait proves nothing until it is claimed"]
pub struct Waited<T> {
    /// What was waited for.
    pub what: String,
    /// What was seen, or what was seen instead.
    pub result: Result<T, Missed>,
    /// How long it took.
    pub took: Duration,
    /// The machine stalled meanwhile, so a miss proves nothing.
    pub stalled: Option<Duration>,
}

/// The wait did not end well.
#[derive(Clone, Debug)]
pub struct Missed {
    /// `within 5.0 s`, `for 2.0 s`.
    pub within: String,
    /// What was seen instead.
    pub actual: String,
}

/// What a look shows that is not what is waited for.
#[derive(Clone, Debug)]
pub(crate) enum ProbeError {
    /// It may still come.
    Pending(String),
    /// It cannot come any more.
    Unreachable(String),
}

impl<T> Waited<T> {
    /// Whether it ended well.
    pub fn is_met(&self) -> bool {
        self.result.is_ok()
    }

    /// What was seen, for steps that are only a precondition of the check.
    ///
    /// # Errors
    /// The wait was missed, which breaks `owner`.
    pub fn or_blocked(self, on: &impl AsRef<CheckRun>, owner: Requirement) -> Result<T, Blocked> {
        let (what, stalled) = (self.what, self.stalled);
        self.result.map_err(|missed| Blocked::Precondition {
            owner: entry(owner),
            what: format!("{what} {}", missed.within),
            actual: missed.actual,
            culprit_frame: on.as_ref().evidence.last_inbox_seen(),
            stalled,
        })
    }
}

impl CheckRun {
    /// Looks again and again until the probe says `Ok`, at most for the deadline and the suite's
    /// patience, and for as long as the machine stood still. A probe says `Err` with what it saw instead.
    pub async fn eventually<T, F, Fut>(
        &self,
        within: impl Into<Duration>,
        what: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.look(within.into(), what, || {
            let seen = probe();
            async move { seen.await.map_err(ProbeError::Pending) }
        })
        .await
    }

    /// [`CheckRun::eventually`] with a probe that can tell that there is nothing to wait for any more.
    pub(crate) async fn look<T, F, Fut>(
        &self,
        limit: Duration,
        what: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ProbeError>>,
    {
        let began = Instant::now();
        let patience = limit + self.patience();
        self.evidence.waiting_for(Some(what));
        let mut pause = FIRST_PAUSE;
        let result = loop {
            // A look that began in time counts, however long the answer takes on a busy machine.
            let seen = probe().await;
            match seen {
                Ok(value) => break Ok(value),
                Err(ProbeError::Unreachable(actual)) => {
                    let within = format!("within {}", seconds(limit));
                    break Err(Missed { within, actual });
                }
                Err(ProbeError::Pending(actual))
                    if began.elapsed() >= patience + self.patience.clock.stood_still(began) =>
                {
                    break Err(Missed {
                        within: format!("within {}", seconds(limit)),
                        actual,
                    });
                }
                Err(ProbeError::Pending(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        };
        self.waited(what, began, result)
    }

    /// Looks again and again: the probe must say `Ok` every time for the whole window.
    pub async fn consistently<T, F, Fut>(
        &self,
        window: impl Into<Duration>,
        what: &str,
        mut probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        let (began, window) = (Instant::now(), window.into());
        self.evidence.waiting_for(Some(what));
        let result = loop {
            match probe().await {
                Err(actual) => {
                    let at = seconds(began.elapsed());
                    let within = format!("for {}", seconds(window));
                    break Err(Missed {
                        within,
                        actual: format!("{actual} (after {at})"),
                    });
                }
                Ok(value) if began.elapsed() >= window => break Ok(value),
                Ok(_) => {}
            }
            tokio::time::sleep(LAST_PAUSE.min(window.saturating_sub(began.elapsed()))).await;
        };
        self.waited(what, began, result)
    }

    /// Looks again and again: the probe must not see the thing (`Some`) during the whole window.
    pub async fn never<F, Fut>(
        &self,
        window: impl Into<Duration>,
        what: &str,
        mut probe: F,
    ) -> Waited<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<String>>,
    {
        self.consistently(window, &format!("never: {what}"), || {
            let seen = probe();
            async move { seen.await.map_or(Ok(()), Err) }
        })
        .await
    }

    fn waited<T>(&self, what: &str, began: Instant, result: Result<T, Missed>) -> Waited<T> {
        self.evidence.waiting_for(None);
        let stalled = result
            .is_err()
            .then(|| self.patience.clock.stalled_since(began))
            .flatten();
        Waited {
            what: what.to_owned(),
            result,
            took: began.elapsed(),
            stalled,
        }
    }
}

/// `5.0 s`, and `50 ms` for what is short.
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
