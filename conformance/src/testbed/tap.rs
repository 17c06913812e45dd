//! A proxy between a target and its bus: it records every frame and can inject faults.
//!
//! Rules drop, delay, duplicate, rewrite or hold single messages, or close the connection at one of
//! them. The tap can also close all connections, simulate an outage of the broker, and freeze all
//! traffic.
//!
//! Frames without a matching rule are forwarded unchanged and in order, except that the tap removes
//! `connect_urls` from the INFO of the bus, so that no client bypasses the tap, and can announce a
//! smaller maximum payload.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use berth_broker::PortReservation;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod correlation;
mod delayed;
mod direction;
mod faults;
mod forwarder;
mod frame;
mod proxy;
mod recording;
mod rule;

pub use self::faults::{Freeze, Outage, OutageMode};
pub use self::frame::{CorrelatedRequest, Direction, Disposition, Frame, FrameKind};
pub use self::recording::{Losses, Mark, NoMatchingFrame};
pub use self::rule::{Action, Rule, RuleGuard};

use self::faults::Faults;
use self::recording::Recording;
use self::rule::Rules;

/// A running tap. Dropping it closes its listener and all connections through it.
#[derive(Debug)]
pub struct Tap {
    port: Arc<PortReservation>,
    shared: Arc<Shared>,
    stopped: CancellationToken,
}

/// Reasons why a tap cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// No port is available.
    #[error("the tap cannot listen on loopback")]
    Listen(#[source] io::Error),
}

/// The state that all parts of a tap share.
#[derive(Debug)]
struct Shared {
    recording: Recording,
    rules: Arc<Rules>,
    faults: Faults,
    opened_connections: AtomicU64,
    /// Maximum payload that replaces the one in the INFO of the bus; 0 to leave it.
    announced_max_payload: AtomicUsize,
}

impl Tap {
    /// Starts a tap in front of the bus at `upstream`, on a free port of 127.0.0.1.
    ///
    /// The bus may start later: while it is not available, connections are accepted and closed.
    ///
    /// # Errors
    /// Fails if no port is available.
    pub async fn start(upstream: SocketAddr) -> Result<Self, TapError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = Arc::new(PortReservation::bind(any).map_err(TapError::Listen)?);
        let listener = port.listen().map_err(TapError::Listen)?;
        let shared = Arc::new(Shared {
            recording: Recording::new(),
            rules: Arc::new(Rules::new()),
            faults: Faults::new(),
            opened_connections: AtomicU64::new(0),
            announced_max_payload: AtomicUsize::new(0),
        });
        let stopped = CancellationToken::new();
        let run = proxy::run(
            shared.clone(),
            port.clone(),
            listener,
            upstream,
            stopped.clone(),
            TaskTracker::new(),
        );
        tokio::spawn(run);
        Ok(Self {
            port,
            shared,
            stopped,
        })
    }

    /// Returns the address that targets connect to.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Returns the URL that targets connect to: `nats://host:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Activates a rule. If several rules match a message, the oldest rule applies.
    pub fn add_rule(&self, rule: Rule) -> RuleGuard {
        self.shared.rules.install(rule)
    }

    /// Replaces the maximum payload in the INFO of each later connection. The tap forwards longer
    /// messages, so that a check can see them.
    pub fn announce_max_payload(&self, bytes: usize) {
        self.shared
            .announced_max_payload
            .store(bytes, Ordering::Relaxed);
    }

    /// Closes every connection and rejects new ones as `mode` says, until the guard is restored or
    /// dropped.
    ///
    /// Returns when the connections are closed. A second outage replaces the first outage. It ends
    /// as soon as either guard is restored or dropped.
    pub async fn start_outage(&self, mode: OutageMode) -> Outage {
        let outage = Outage(self.shared.faults.clone());
        self.shared.faults.update(|state| state.outage = Some(mode));
        let refusing = mode == OutageMode::Refuse;
        let in_effect = self
            .shared
            .faults
            .wait_for(|state| state.connections == 0 && !(refusing && state.listening));
        in_effect.await;
        outage
    }

    /// Forwards nothing in either direction, with all connections open, until the guard is dropped.
    ///
    /// Data may still arrive if its write had already begun.
    pub fn freeze(&self) -> Freeze {
        self.shared.faults.update(|state| state.freezes += 1);
        Freeze(self.shared.faults.clone())
    }

    /// Returns the number of open connections of the target.
    pub fn connections(&self) -> usize {
        self.shared.faults.state().connections
    }

    /// Waits until the target has no open connection. Cancel safe.
    pub async fn wait_until_disconnected(&self) {
        let faults = &self.shared.faults;
        faults.wait_for(|state| state.connections == 0).await;
    }

    /// Returns the position after the most recent frame.
    pub fn mark(&self) -> Mark {
        self.shared.recording.mark()
    }

    /// Returns all frames that the recording still contains, in order.
    pub fn frames(&self) -> Vec<Arc<Frame>> {
        self.frames_since(Mark::START)
    }

    /// Returns the frames since a position that the recording still contains, in order.
    pub fn frames_since(&self, mark: Mark) -> Vec<Arc<Frame>> {
        self.shared.recording.since(mark)
    }

    /// Returns how much the recording has discarded to stay within its bounds.
    pub fn losses(&self) -> Losses {
        self.shared.recording.losses()
    }

    /// Subscribes to all frames from now on. A slow receiver learns how many frames it has missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.shared.recording.subscribe()
    }

    /// Returns the first frame since a position that satisfies a condition. Cancel safe.
    ///
    /// # Errors
    /// Fails if no frame satisfies the condition before the deadline.
    pub async fn wait_for(
        &self,
        from: Mark,
        condition: impl FnMut(&Frame) -> bool,
        deadline: Instant,
    ) -> Result<Arc<Frame>, NoMatchingFrame> {
        self.shared
            .recording
            .wait_for(from, condition, deadline)
            .await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}
