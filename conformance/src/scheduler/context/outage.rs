//! How scenarios let hosts be away for a moment, and see that nothing comes of it.

use std::time::{Duration, Instant};

use super::ScenarioContext;
use crate::check::isolation::SchedulerIsolation;
use crate::check::outcome::Blocked;
use crate::check::wait::seconds;
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::Requirement;

/// So often is an absence tried that takes too long on a busy machine.
const ATTEMPTS: u32 = 8;
/// Without starts and stops for that long, the scheduler is taken to be done with what was.
const CALM: Duration = Duration::from_secs(3);
/// How long it may take until it is.
const CALM_WITHIN: Duration = Duration::from_secs(20);

/// Connections that take longer than this to close were not all closed at once.
const TOGETHER: Duration = Duration::from_millis(500);

/// How it went.
struct Away {
    /// Between the first and the last to go.
    apart: Duration,
    /// Until all were back: so long nobody could reach one of them.
    took: Duration,
}

/// Hosts that are away for a moment.
#[derive(Clone, Copy, Debug)]
pub struct Absence<'h> {
    /// Which.
    pub hosts: &'h [SimulatedHost],
    /// For how long.
    pub pause: Duration,
    /// One that takes longer proves nothing: the suite needs time to connect again.
    pub limit: Duration,
    /// How often, so that somebody looks while they are away.
    pub times: u32,
}

impl ScenarioContext {
    /// Lets hosts be away and claims that nothing is started or stopped from then on, nor is for `window` after their
    /// return. Before each further attempt on a machine that was too slow for one, `again` is asked to put something
    /// on them: by then they may rightly have been taken for lost.
    ///
    /// # Errors
    /// This machine is too slow for every one, or the broker does not answer.
    pub async fn assert_no_churn<Fut>(
        &self,
        requirement: Requirement,
        absence: &Absence<'_>,
        window: Duration,
        again: impl Fn(u32) -> Fut,
    ) -> Result<(), Blocked>
    where
        Fut: Future<Output = Result<(), Blocked>>,
    {
        let (mut judged, mut slowest) = (0, Duration::ZERO);
        for attempt in 0..ATTEMPTS {
            let from = Instant::now();
            let Away { apart, took } = self.away(absence).await?;
            if took < absence.limit && apart < TOGETHER {
                self.assert_no_commands(requirement, from, window).await;
                judged += 1;
                if judged == absence.times {
                    return Ok(());
                }
            } else {
                slowest = slowest.max(took.max(apart));
                self.calm().await;
                again(attempt).await?;
            }
        }
        match judged {
            0 => Err(Blocked::Harness(format!(
                "this machine took {} to bring hosts back that were to be away for {}",
                seconds(slowest),
                seconds(absence.pause),
            ))),
            _ => Ok(()),
        }
    }

    /// Cuts hosts off, all at the same time, and brings them back.
    async fn away(&self, absence: &Absence<'_>) -> Result<Away, Blocked> {
        let from = Instant::now();
        let bus = &self.live().bus;
        // On a bus of many scenarios hosts come and go.
        let alone = self.isolation != SchedulerIsolation::Shared;
        let left = bus.connected_hosts().saturating_sub(absence.hosts.len());
        absence.hosts.iter().for_each(SimulatedHost::cut_off);
        let gone = self.eventually(absence.pause, "their connections are closed", || {
            let connected = bus.connected_hosts();
            let gone = !alone || connected <= left;
            std::future::ready(if gone {
                Ok(())
            } else {
                Err(connected.to_string())
            })
        });
        let apart = gone.await.took;
        self.pass(absence.pause.saturating_sub(from.elapsed()))
            .await;
        let back = absence.hosts.iter().map(SimulatedHost::come_back);
        for back in futures_util::future::join_all(back).await {
            back.map_err(|cause| Blocked::chain("a simulated host", &cause))?;
        }
        let took = from.elapsed();
        Ok(Away { apart, took })
    }

    /// Waits until nothing has been started or stopped for a while.
    async fn calm(&self) {
        let calm = self.eventually(CALM_WITHIN, "nothing is started or stopped", || {
            let since = Instant::now().checked_sub(CALM);
            let orders = since.map(|since| self.journal.orders_since(since));
            let last = orders.unwrap_or_default().pop();
            std::future::ready(last.map_or(Ok(()), Err))
        });
        // Whatever goes on then is judged with what comes.
        let _ = calm.await;
    }
}
