//! The environment of scenarios: a scheduler on a bus, and the hosts of finished scenarios.

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

/// Number of hosts that run besides the hosts of scenarios. If a large part of its fleet vanishes
/// at once, a scheduler suspects the broker. With them, a scenario that ends one of its two hosts
/// does not have this effect.
const BACKGROUND_HOSTS: usize = 12;
/// Host group of the background hosts, which no scenario selects.
const BACKGROUND_GROUP: &str = "background";

/// Time to wait for the subscription of a launched scheduler before the first hosts start.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);
/// Time for the connections of the hosts to close. The hosts are in this process.
const HOSTS_GONE_WITHIN: Duration = Duration::from_secs(2);

/// Bus, scheduler and settings that the scenarios of a run share, or that one scenario has for
/// itself.
#[derive(Debug)]
pub struct Environment {
    /// Hosts of finished scenarios. Dropped before the bus: a host without its broker keeps
    /// reconnecting, and another run may use the port by then.
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
    next_tag: Arc<AtomicU64>,
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
    /// Number of the next tag.
    pub next_tag: Arc<AtomicU64>,
}

impl EnvironmentConfig {
    /// Starts an environment: a bus, the scheduler if `with_scheduler`, and background hosts if
    /// `with_background_hosts`.
    ///
    /// # Errors
    /// The broker or the scheduler does not start.
    pub async fn start(
        &self,
        with_scheduler: bool,
        with_background_hosts: bool,
    ) -> Result<Environment, LaunchError> {
        let scheduler =
            RunningScheduler::start(self.target.clone(), &self.broker, with_scheduler).await?;
        let environment = Environment {
            scheduler,
            timings: self.target.timings,
            patience: self.patience.clone(),
            secrets: self.secrets.clone(),
            run_token: self.run_token.clone(),
            next_tag: self.next_tag.clone(),
            retired: Mutex::default(),
        };
        if with_scheduler {
            environment
                .scheduler
                .wait_until_subscribed(SUBSCRIBED_WITHIN)
                .await;
        }
        if with_background_hosts {
            for number in 0..BACKGROUND_HOSTS {
                let name = format!("background-{number}");
                let mut config = HostConfig::new(&name, BACKGROUND_GROUP);
                config.heartbeat_interval = environment.timings.heartbeat_interval();
                // Fewer background hosts are still useful.
                if let Ok(host) = environment.start_host(config, Journal::default()).await {
                    environment.retire(vec![host]);
                }
            }
        }
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

    /// Keeps the hosts of a finished scenario connected. If they all left at once, the scheduler
    /// would react to it.
    pub fn retire(&self, hosts: Vec<SimulatedHost>) {
        for host in &hosts {
            host.clear_rules();
            host.resume_heartbeats();
            host.resume();
        }
        self.lock_retired().extend(hosts);
    }

    /// Returns a token that is unique across scenarios and runs, and valid in names.
    pub fn next_tag(&self) -> String {
        format!(
            "t{}x{}",
            self.run_token,
            self.next_tag.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Stops the scheduler, and kills it after `grace`. Then stops the hosts, while their broker
    /// still runs.
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
