//! What scenarios are played on: a scheduler on a bus, and the hosts that have played their part.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::journal::Journal;
use super::simulated_host::{HostPlan, SimulatedHost};
use super::target::{LaunchError, RunningScheduler, Target};
use super::timings::Timings;
use crate::testbed::broker::BrokerChoice;
use crate::testbed::clock::Patience;
use crate::testbed::secrets::Secrets;
use crate::wire::nats::BusError;

/// Hosts that are always there beside those of scenarios. A scheduler that sees a large part of its fleet
/// vanish at once suspects the broker; a scenario that ends one host of two must not look like that.
const BACKGROUND_HOSTS: usize = 12;
/// The host group of the chorus, which no scenario selects.
const BACKGROUND_GROUP: &str = "chorus";

/// How long a scheduler that was launched is waited for before the first hosts come.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// How long the connections of hosts may take to close: they are on this machine.
const HOSTS_GONE_WITHIN: Duration = Duration::from_secs(2);

/// The equipment that scenarios of one run share, or that one of them has for itself.
#[derive(Debug)]
pub struct Environment {
    /// Before the bus, so that they are dropped before it: hosts whose broker is gone look for it, and its port may
    /// be another run's by then.
    retired: Mutex<Vec<SimulatedHost>>,
    /// The scheduler and its bus.
    pub live: RunningScheduler,
    /// The times that it is judged by.
    pub timings: Timings,
    /// What waits are given besides.
    pub patience: Patience,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    /// The token of the run.
    run: String,
    tags: Arc<AtomicU64>,
}

/// What all stages of a run have in common.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    /// The target.
    pub target: Arc<Target>,
    /// Which broker.
    pub broker: BrokerChoice,
    /// The token of the run.
    pub run: String,
    /// What waits are given besides.
    pub patience: Patience,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    /// The number of the next tag.
    pub tags: Arc<AtomicU64>,
}

impl EnvironmentConfig {
    /// Sets a stage. `launched`: with the scheduler on it; `shared`: with a chorus.
    ///
    /// # Errors
    /// Broker or scheduler do not come up.
    pub async fn stage(&self, launched: bool, shared: bool) -> Result<Environment, LaunchError> {
        let live = RunningScheduler::start(self.target.clone(), &self.broker, launched).await?;
        let stage = Environment {
            live,
            timings: self.target.timings,
            patience: self.patience.clone(),
            secrets: self.secrets.clone(),
            run: self.run.clone(),
            tags: self.tags.clone(),
            retired: Mutex::default(),
        };
        if launched {
            stage.live.listens(LISTENS_WITHIN).await;
        }
        if shared {
            for number in 0..BACKGROUND_HOSTS {
                let mut plan = HostPlan::new(&format!("chorus-{number}"), BACKGROUND_GROUP);
                plan.beat_every = stage.timings.beat_every();
                // A chorus that is incomplete is still one.
                if let Ok(host) = stage.bring_up(plan, Journal::default()).await {
                    stage.retire(vec![host]);
                }
            }
        }
        Ok(stage)
    }
}

impl Environment {
    /// Brings up a host on this bus.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn bring_up(
        &self,
        plan: HostPlan,
        journal: Journal,
    ) -> Result<SimulatedHost, BusError> {
        SimulatedHost::bring_up(plan, &self.live.bus.hosts_url(), journal).await
    }

    /// Keeps hosts whose scenario is over: that they all go at once would be an event of its own.
    pub fn retire(&self, hosts: Vec<SimulatedHost>) {
        for host in &hosts {
            host.behave();
            host.mute(false);
            host.thaw();
        }
        self.lock_retired().extend(hosts);
    }

    /// A token that no other scenario of this run has, nor any of another run; fit for names.
    pub fn next_tag(&self) -> String {
        format!(
            "t{}x{}",
            self.run,
            self.tags.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Ends the scheduler, which has that long to do it politely, and then the hosts, while their broker is there.
    pub async fn end(&self, within: Duration) {
        self.live.end(within).await;
        let hosts = std::mem::take(&mut *self.lock_retired());
        hosts.iter().for_each(SimulatedHost::cut_off);
        self.live.bus.without_hosts(HOSTS_GONE_WITHIN).await;
        self.live.intake.close().await;
    }

    fn lock_retired(&self) -> MutexGuard<'_, Vec<SimulatedHost>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
