//! A proxy between a target and its bus that understands frames: it records all of them, and can drop,
//! delay, duplicate, rewrite or hold single messages, cut connections, and play a broker's outage.
//!
//! What no rule speaks of is passed on as it came, in order. The only thing that is always changed is
//! the INFO of the bus: `connect_urls` is taken out, so that no client goes round the tap.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use berth_broker::Port;
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

pub use self::faults::{Freeze, Outage, OutagePlan};
pub use self::frame::{Direction, Fate, Frame, Kind, Request};
pub use self::recording::{Losses, Mark, NotSeen};
pub use self::rule::{Action, Rule, RuleGuard};

use self::faults::Switch;
use self::recording::Record;
use self::rule::Rules;

/// A running tap. Dropping it closes its listener and all connections through it.
#[derive(Debug)]
pub struct Tap {
    port: Arc<Port>,
    shared: Arc<Shared>,
    stopped: CancellationToken,
}

/// Why a tap could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// No port could be listened on.
    #[error("the tap cannot listen on loopback")]
    Listen(#[source] io::Error),
}

/// What the tap's parts share.
#[derive(Debug)]
struct Shared {
    record: Record,
    rules: Arc<Rules>,
    switch: Switch,
    connections_ever: AtomicU64,
}

impl Tap {
    /// Starts a tap in front of the bus at `upstream`, on a free port of 127.0.0.1.
    ///
    /// The bus need not be there yet: while it is not, connections are accepted and closed.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start(upstream: SocketAddr) -> Result<Self, TapError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = Arc::new(Port::bind(any).map_err(TapError::Listen)?);
        let listener = port.listen().map_err(TapError::Listen)?;
        let shared = Arc::new(Shared {
            record: Record::new(),
            rules: Arc::new(Rules::new()),
            switch: Switch::new(),
            connections_ever: AtomicU64::new(0),
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

    /// Where targets connect to.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Where targets connect to, as they take it: `nats://host:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Puts a rule in force. Of several that match, the one installed first has its way.
    pub fn rule(&self, rule: Rule) -> RuleGuard {
        self.shared.rules.install(rule)
    }

    /// Closes every connection and keeps new ones away as planned, until the guard is restored or dropped.
    ///
    /// Returns when the connections are closed. There is one outage at a time: another one replaces it,
    /// and whichever guard goes first ends it.
    pub async fn cut(&self, plan: OutagePlan) -> Outage {
        let outage = Outage(self.shared.switch.clone());
        self.shared
            .switch
            .set(|position| position.outage = Some(plan));
        let refusing = plan == OutagePlan::Refuse;
        let settled = self
            .shared
            .switch
            .until(|position| position.connections == 0 && !(refusing && position.listening));
        settled.await;
        outage
    }

    /// Passes nothing on, either way, with all connections open, until the guard is dropped.
    ///
    /// What was already being written when this was called may still arrive.
    pub fn freeze(&self) -> Freeze {
        self.shared.switch.set(|position| position.freezes += 1);
        Freeze(self.shared.switch.clone())
    }

    /// How many connections of the target are open.
    pub fn connections(&self) -> usize {
        self.shared.switch.get().connections
    }

    /// Waits until no connection of the target is open. Cancel safe.
    pub async fn deserted(&self) {
        let switch = &self.shared.switch;
        switch.until(|position| position.connections == 0).await;
    }

    /// The position behind the last frame recorded.
    pub fn mark(&self) -> Mark {
        self.shared.record.mark()
    }

    /// All frames recorded and still kept, in order.
    pub fn frames(&self) -> Vec<Arc<Frame>> {
        self.frames_since(Mark::START)
    }

    /// The frames recorded from a position on and still kept, in order.
    pub fn frames_since(&self, mark: Mark) -> Vec<Arc<Frame>> {
        self.shared.record.since(mark)
    }

    /// What the record had to give up so far.
    pub fn losses(&self) -> Losses {
        self.shared.record.losses()
    }

    /// All frames from now on, as they pass. A receiver that falls far behind is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.shared.record.subscribe()
    }

    /// The first frame from a position on that satisfies a condition. Cancel safe.
    ///
    /// # Errors
    /// When none has come at the deadline.
    pub async fn wait_for(
        &self,
        from: Mark,
        wanted: impl FnMut(&Frame) -> bool,
        deadline: Instant,
    ) -> Result<Arc<Frame>, NotSeen> {
        self.shared.record.wait_for(from, wanted, deadline).await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}
