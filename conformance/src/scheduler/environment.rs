//! The environment of scenarios: a scheduler on a bus, the hosts of finished scenarios, and
//! background hosts, which belong to no scenario.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::journal::Journal;
use super::simulated_host::{HostConfig, SimulatedHost};
use super::target::{LaunchError, RunningScheduler, Target};
use super::timings::Timings;
use crate::testbed::broker::BrokerChoice;
use crate::testbed::clock::Patience;
use crate::testbed::secrets::Secrets;
use crate::wire::nats::BusError;

/// Number of background hosts in the shared environment, which run besides the hosts of scenarios.
/// A scheduler suspects the broker when a large part of its fleet vanishes at once. Because of the
/// background hosts, the hosts that concurrent scenarios end are not a large part of the fleet.
const BACKGROUND_HOSTS: usize = 32;
/// Host group of the background hosts, which no scenario selects.
const BACKGROUND_GROUP: &str = "background";

/// Maximum wait for the subscription of a launched scheduler before the first hosts start.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);
/// Maximum wait for the connections of the hosts to close. Short, because the hosts run in this
/// process.
const HOSTS_GONE_WITHIN: Duration = Duration::from_secs(2);

/// Bus, scheduler and settings that the scenarios of a run share, or that one scenario has for
/// itself.
#[derive(Debug)]
pub struct Environment {
    /// Hosts of finished scenarios, and background hosts. Dropped before the bus, because a host
    /// without its broker keeps reconnecting, and another run may use the port of the broker later.
    retired: Mutex<Vec<SimulatedHost>>,
    /// Scheduler and its bus.
    pub scheduler: RunningScheduler,
    /// Time limits of the target.
    pub timings: Timings,
    /// Additional time that every wait allows.
    pub patience: Patience,
    /// Values that must not appear in any output.
    pub secrets: Arc<Secrets>,
    run_token: String,
    name_prefix_count: Arc<AtomicU64>,
}

/// Configuration that all environments of a run share.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    /// Scheduler to judge.
    pub target: Arc<Target>,
    /// Broker to start or to use.
    pub broker: BrokerChoice,
    /// Token of the run, which is part of every name.
    pub run_token: String,
    /// Additional time that every wait allows.
    pub patience: Patience,
    /// Values that must not appear in any output.
    pub secrets: Arc<Secrets>,
    /// Number of name prefixes that the run has used so far.
    pub name_prefix_count: Arc<AtomicU64>,
}

impl EnvironmentConfig {
    /// Starts the environment that scenarios share: a bus, the scheduler, and background hosts.
    ///
    /// # Errors
    /// The broker or the scheduler does not start.
    pub async fn start_shared(&self) -> Result<Environment, LaunchError> {
        let environment = self.start_own().await?;
        for number in 0..BACKGROUND_HOSTS {
            let name = format!("background-{number}");
            let mut config = HostConfig::new(&name, BACKGROUND_GROUP);
            config.heartbeat_interval = environment.timings.heartbeat_interval();
            // Fewer background hosts are still useful.
            if let Ok(host) = environment.start_host(config, Journal::default()).await {
                environment.retire(vec![host]);
            }
        }
        Ok(environment)
    }

    /// Starts an environment for one scenario: a bus and the scheduler.
    ///
    /// # Errors
    /// The broker or the scheduler does not start.
    pub async fn start_own(&self) -> Result<Environment, LaunchError> {
        let scheduler = RunningScheduler::start(self.target.clone(), &self.broker).await?;
        let environment = Environment {
            scheduler,
            timings: self.target.timings,
            patience: self.patience.clone(),
            secrets: self.secrets.clone(),
            run_token: self.run_token.clone(),
            name_prefix_count: self.name_prefix_count.clone(),
            retired: Mutex::default(),
        };
        environment
            .scheduler
            .wait_until_subscribed(SUBSCRIBED_WITHIN)
            .await;
        Ok(environment)
    }
}

impl Environment {
    /// Starts a simulated host on this bus.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn start_host(
        &self,
        config: HostConfig,
        journal: Journal,
    ) -> Result<SimulatedHost, BusError> {
        SimulatedHost::start(config, &self.scheduler.bus.hosts_url(), journal).await
    }

    /// Keeps the hosts of a finished scenario connected. If all of them disconnected at once, the
    /// scheduler would react to their loss.
    pub fn retire(&self, hosts: Vec<SimulatedHost>) {
        for host in &hosts {
            host.clear_rules();
            host.resume_heartbeats();
            host.resume();
        }
        self.lock_retired().extend(hosts);
    }

    /// Returns a prefix for the names of one scenario that no other scenario or run uses.
    pub fn new_name_prefix(&self) -> String {
        format!(
            "t{}x{}",
            self.run_token,
            self.name_prefix_count.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Stops the scheduler, and kills it if it still runs after `grace`. Then disconnects the
    /// hosts, while their broker still runs.
    pub async fn shut_down(&self, grace: Duration) {
        self.scheduler.stop(grace).await;
        let hosts = std::mem::take(&mut *self.lock_retired());
        hosts.iter().for_each(SimulatedHost::disconnect);
        self.scheduler
            .bus
            .wait_for_host_disconnects(HOSTS_GONE_WITHIN)
            .await;
        self.scheduler.intake.close().await;
    }

    fn lock_retired(&self) -> MutexGuard<'_, Vec<SimulatedHost>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
