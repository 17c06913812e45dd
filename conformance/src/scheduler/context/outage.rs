//! Short outages of hosts, and the claim that the scheduler does not react to them.

use std::time::{Duration, Instant};

use super::ScenarioContext;
use crate::check::isolation::SchedulerIsolation;
use crate::check::outcome::Blocked;
use crate::check::wait::seconds;
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::Requirement;

/// Maximum number of outages per claim. On a busy machine, some of them take too long to be judged.
const ATTEMPTS: u32 = 8;
/// Quiet period: time without a start or stop, after which the scheduler is assumed to have
/// finished earlier work.
const QUIET_PERIOD: Duration = Duration::from_secs(3);
/// Maximum wait for a [`QUIET_PERIOD`].
const QUIET_WITHIN: Duration = Duration::from_secs(20);

/// Maximum time between the first and the last disconnect of simultaneous outages.
const MAX_SPREAD: Duration = Duration::from_millis(500);

/// Measured course of an outage.
struct OutageTiming {
    /// Time between the first and the last disconnect.
    spread: Duration,
    /// Time until all hosts were connected again, the maximum for which a host was unreachable.
    duration: Duration,
}

/// Short outage of some hosts.
#[derive(Clone, Copy, Debug)]
pub struct HostOutage<'h> {
    /// Hosts to disconnect.
    pub hosts: &'h [SimulatedHost],
    /// Intended duration.
    pub duration: Duration,
    /// Duration above which an outage is not judged: the suite was too slow to reconnect the hosts.
    pub max_duration: Duration,
    /// Number of outages to judge. More outages make it likely that the scheduler polls a host
    /// during one of them.
    pub times: u32,
}

impl ScenarioContext {
    /// Disconnects hosts for a moment, and claims that the scheduler starts and stops nothing from
    /// the disconnect until `window` after their return. On a slow machine, an outage may last so
    /// long that the scheduler is permitted to declare the hosts lost. After such an outage,
    /// `redeploy` places workloads on the hosts again, before the next attempt.
    ///
    /// # Errors
    /// Every outage took too long on this machine, or the broker does not respond.
    pub async fn assert_no_churn<Fut>(
        &self,
        requirement: Requirement,
        outage: &HostOutage<'_>,
        window: Duration,
        redeploy: impl Fn(u32) -> Fut,
    ) -> Result<(), Blocked>
    where
        Fut: Future<Output = Result<(), Blocked>>,
    {
        let (mut judged, mut slowest) = (0, Duration::ZERO);
        for attempt in 0..ATTEMPTS {
            let from = Instant::now();
            let OutageTiming { spread, duration } = self.interrupt_hosts(outage).await?;
            if duration < outage.max_duration && spread < MAX_SPREAD {
                self.assert_no_commands(requirement, from, window).await;
                judged += 1;
                if judged == outage.times {
                    return Ok(());
                }
            } else {
                slowest = slowest.max(duration.max(spread));
                self.wait_until_quiet().await;
                redeploy(attempt).await?;
            }
        }
        match judged {
            0 => Err(Blocked::Harness(format!(
                "this machine reconnected the hosts after {} instead of {}",
                seconds(slowest),
                seconds(outage.duration),
            ))),
            _ => Ok(()),
        }
    }

    /// Disconnects the hosts, all at the same time, and reconnects them.
    async fn interrupt_hosts(&self, outage: &HostOutage<'_>) -> Result<OutageTiming, Blocked> {
        let from = Instant::now();
        let bus = &self.scheduler().bus;
        // On a shared bus, hosts of other scenarios connect and disconnect, too.
        let has_own_bus = self.isolation != SchedulerIsolation::Shared;
        let remaining = bus.host_connections().saturating_sub(outage.hosts.len());
        outage.hosts.iter().for_each(SimulatedHost::disconnect);
        let closed = self.eventually(outage.duration, "the connections are closed", || {
            let connected = bus.host_connections();
            let closed = !has_own_bus || connected <= remaining;
            std::future::ready(if closed {
                Ok(())
            } else {
                Err(connected.to_string())
            })
        });
        let spread = closed.await.elapsed;
        self.wait(outage.duration.saturating_sub(from.elapsed()))
            .await;
        let reconnects = outage.hosts.iter().map(SimulatedHost::reconnect);
        for reconnected in futures_util::future::join_all(reconnects).await {
            reconnected.map_err(|error| {
                Blocked::harness_error("cannot reconnect a simulated host", &error)
            })?;
        }
        let duration = from.elapsed();
        Ok(OutageTiming { spread, duration })
    }

    /// Waits until nothing has been started or stopped for [`QUIET_PERIOD`].
    async fn wait_until_quiet(&self) {
        let quiet = self.eventually(QUIET_WITHIN, "nothing is started or stopped", || {
            let since = Instant::now().checked_sub(QUIET_PERIOD);
            let commands = since.map(|since| self.journal.starts_and_stops_since(since));
            let most_recent = commands.unwrap_or_default().pop();
            std::future::ready(most_recent.map_or(Ok(()), Err))
        });
        // Commands after this time are judged together with the next outage.
        let _ = quiet.await;
    }
}
