//! What scenarios are played on: a scheduler on a bus, and the hosts that have played their part.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    bench::Secrets,
    broker::Choice,
    bus::BusError,
    clock::Patience,
    scheduler::{
        host::{HostPlan, SimHost},
        journal::Journal,
        target::{LiveScheduler, NoScheduler, Target},
        timing::Timings,
    },
};

/// Hosts that are always there beside those of scenarios. A scheduler that sees a large part of its fleet
/// vanish at once suspects the broker; a scenario that ends one host of two must not look like that.
const CHORUS: usize = 12;
/// The host group of the chorus, which no scenario selects.
const CHORUS_GROUP: &str = "chorus";

/// The equipment that scenarios of one run share, or that one of them has for itself.
#[derive(Debug)]
pub struct Stage {
    /// The scheduler and its bus.
    pub live: LiveScheduler,
    /// The times that it is judged by.
    pub timings: Timings,
    /// What waits are given besides.
    pub patience: Patience,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    /// The token of the run.
    run: String,
    tags: Arc<AtomicU64>,
    retired: Mutex<Vec<SimHost>>,
}

/// What all stages of a run have in common.
#[derive(Clone, Debug)]
pub struct Props {
    /// The target.
    pub target: Arc<Target>,
    /// Which broker.
    pub broker: Choice,
    /// The token of the run.
    pub run: String,
    /// What waits are given besides.
    pub patience: Patience,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    /// The number of the next tag.
    pub tags: Arc<AtomicU64>,
}

impl Props {
    /// Sets a stage. `launched`: with the scheduler on it; `shared`: with a chorus.
    ///
    /// # Errors
    /// Broker or scheduler do not come up.
    pub async fn stage(&self, launched: bool, shared: bool) -> Result<Stage, NoScheduler> {
        let live = LiveScheduler::start(self.target.clone(), &self.broker, launched).await?;
        let stage = Stage {
            live,
            timings: self.target.timings,
            patience: self.patience.clone(),
            secrets: self.secrets.clone(),
            run: self.run.clone(),
            tags: self.tags.clone(),
            retired: Mutex::default(),
        };
        if shared {
            for number in 0..CHORUS {
                let mut plan = HostPlan::new(&format!("chorus-{number}"), CHORUS_GROUP);
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

impl Stage {
    /// Brings up a host on this bus.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn bring_up(&self, plan: HostPlan, journal: Journal) -> Result<SimHost, BusError> {
        SimHost::bring_up(plan, &self.live.bus.hosts_url(), journal).await
    }

    /// Keeps hosts whose scenario is over: that they all go at once would be an event of its own.
    pub fn retire(&self, hosts: Vec<SimHost>) {
        for host in &hosts {
            host.behave();
            host.mute(false);
            host.thaw();
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(hosts);
    }

    /// A token that no other scenario of this run has, nor any of another run; fit for names.
    pub fn next_tag(&self) -> String {
        format!(
            "t{}x{}",
            self.run,
            self.tags.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// How long the process may take to end politely at the end of the run.
    pub async fn end(&self, within: Duration) {
        self.live.end(within).await;
    }
}
