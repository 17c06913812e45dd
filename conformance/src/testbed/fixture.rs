//! The fixture that all checks of a run share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::beacon::BeaconServer;
use super::clock::{Clock, Patience};
use super::images::Images;
use super::registry::Registry;
use super::secrets::Secrets;
use crate::wire::nats::Bus;

/// The bus, the registry, the beacon server and the clock of a run.
#[derive(Debug)]
pub struct Fixture {
    /// ID of the run. Every id and inbox contains it, so that runs on one broker do not conflict.
    pub run_id: String,
    /// Connection of the suite.
    pub bus: Bus,
    /// Registry that serves the role images.
    pub registry: Registry,
    /// Server that guests call.
    pub beacons: BeaconServer,
    /// Monitor of stalls of the machine.
    pub clock: Clock,
    /// Image of each role.
    pub images: Images,
    /// Values that no report may contain.
    pub secrets: Arc<Secrets>,
    patience: Patience,
    last_name: AtomicU64,
}

impl Fixture {
    /// Assembles the fixture of a run.
    pub fn new(
        run_id: String,
        bus: Bus,
        registry: Registry,
        beacons: BeaconServer,
        images: Images,
    ) -> Fixture {
        let patience = Patience::start();
        Fixture {
            run_id,
            bus,
            registry,
            beacons,
            clock: patience.clock.clone(),
            images,
            secrets: Arc::default(),
            patience,
            last_name: AtomicU64::new(0),
        }
    }

    /// Returns the time that the suite adds to every deadline for its own delays.
    pub fn patience(&self) -> Duration {
        self.patience.current()
    }

    /// Sets the slowest round trip that preflight has measured.
    pub fn set_slowest_rtt(&self, slowest_rtt: Duration) {
        self.patience.set_slowest_rtt(slowest_rtt);
    }

    /// Returns the patience that check runs share.
    pub fn shared_patience(&self) -> Patience {
        self.patience.clone()
    }

    /// Returns a name that no other check of this or any other run has.
    pub fn next_unique_name(&self) -> String {
        format!(
            "t{}x{}",
            self.run_id,
            self.last_name.fetch_add(1, Ordering::Relaxed)
        )
    }
}
