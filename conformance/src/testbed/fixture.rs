//! The equipment that all checks of a run share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::beacon::Beacons;
use super::clock::{Clock, Patience};
use super::images::Images;
use super::registry::Registry;
use super::secrets::Secrets;
use crate::wire::nats::Bus;

/// Bus, registry, beacons, clock: one of each in a run.
#[derive(Debug)]
pub struct Fixture {
    /// The token of the run: in every id and inbox, so that runs on one broker do not meet.
    pub run: String,
    /// The suite's connection.
    pub bus: Bus,
    /// The registry that serves the roles.
    pub registry: Registry,
    /// The server that guests call.
    pub beacons: Beacons,
    /// The watch over the machine.
    pub clock: Clock,
    /// The image of each role.
    pub images: Images,
    /// What must never be shown.
    pub secrets: Arc<Secrets>,
    patience: Patience,
    tags: AtomicU64,
}

impl Fixture {
    /// Equipment in the hands of a run.
    pub fn new(
        run: String,
        bus: Bus,
        registry: Registry,
        beacons: Beacons,
        images: Images,
    ) -> Fixture {
        let patience = Patience::start();
        Fixture {
            run,
            bus,
            registry,
            beacons,
            clock: patience.clock.clone(),
            images,
            secrets: Arc::default(),
            patience,
            tags: AtomicU64::new(0),
        }
    }

    /// What the suite adds to every deadline for its own delays.
    pub fn patience(&self) -> Duration {
        self.patience.now()
    }

    /// Takes over the slowest round trip that the doctor saw.
    pub fn measured(&self, slowest_rtt: Duration) {
        self.patience.measured(slowest_rtt);
    }

    /// What runs of checks wait with.
    pub fn shared_patience(&self) -> Patience {
        self.patience.clone()
    }

    /// A token that no other check of this run has, nor any of another run.
    pub fn next_tag(&self) -> String {
        format!(
            "t{}x{}",
            self.run,
            self.tags.fetch_add(1, Ordering::Relaxed)
        )
    }
}
