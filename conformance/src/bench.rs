//! The equipment that all checks of a run share.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    beacon::Beacons,
    bus::Bus,
    clock::{Clock, Patience},
    registry::Registry,
    target::Images,
};

/// Bus, registry, beacons, clock: one of each in a run.
#[derive(Debug)]
pub struct Bench {
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

impl Bench {
    /// Equipment in the hands of a run.
    pub fn new(
        run: String,
        bus: Bus,
        registry: Registry,
        beacons: Beacons,
        images: Images,
    ) -> Bench {
        let patience = Patience::start();
        Bench {
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

/// Values that reports must not show.
#[derive(Default)]
pub struct Secrets(RwLock<Vec<String>>);

/// Shorter values are not searched for: they would stand in every text by chance.
const MIN_SECRET_BYTES: usize = 4;

impl Secrets {
    /// One more.
    pub fn add(&self, value: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if value.len() >= MIN_SECRET_BYTES && !secrets.iter().any(|known| known == value) {
            secrets.push(value.to_owned());
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// The text with every secret blotted out.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, "[redacted]")
        })
    }

    /// Whether one of the secrets stands in the bytes.
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().any(|secret| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        })
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}
