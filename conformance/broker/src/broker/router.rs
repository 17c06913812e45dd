//! The state that all connections share, and the routing of messages between them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use tokio_util::sync::CancellationToken;

use super::outbound::{Appended, Outbound};
use crate::frame::{Publish, Text, put_message};
use crate::subscriptions::{Matches, QueuePick, Subscriptions};
use crate::{BrokerOptions, Stats};

/// Routes messages from publishers to subscribers.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) options: BrokerOptions,
    pub(super) addr: SocketAddr,
    pub(super) server_id: String,
    pub(super) connections: AtomicUsize,
    pub(super) slow_consumers: AtomicU64,
    subscriptions: RwLock<Subscriptions<Subscription>>,
    last_client_id: AtomicU64,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
}

/// A connected client, as other connections see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) outbound: Outbound,
    /// The client supports headers; set by CONNECT.
    pub(super) headers: AtomicBool,
    /// Cancelled to end the connection.
    pub(super) close: CancellationToken,
    /// The reason of the disconnect, if the broker decided it.
    pub(super) disconnect_reason: Mutex<Option<DisconnectReason>>,
}

/// Reasons why the broker ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DisconnectReason {
    SlowConsumer,
    Stale,
    AuthTimeout,
}

/// A subscription of a client.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) client: Arc<Client>,
    pub(super) subject: Text,
    pub(super) queue: Option<Text>,
    pub(super) sid: Text,
    /// Messages delivered so far.
    pub(super) delivered: AtomicU64,
    /// Maximum number of messages; [`Subscription::UNLIMITED`] if there is none.
    pub(super) max: AtomicU64,
}

/// Buffers that a publisher's connection reuses, so that a message costs no allocation.
#[derive(Debug)]
pub(super) struct PublishScratch {
    matches: Matches<Subscription>,
    /// Clients with new data, to be flushed at the end of the batch.
    to_flush: Vec<Arc<Client>>,
    random: u64,
}

impl Router {
    pub(super) fn new(options: BrokerOptions, addr: SocketAddr) -> Self {
        Self {
            server_id: server_id(addr),
            options,
            addr,
            connections: AtomicUsize::new(0),
            slow_consumers: AtomicU64::new(0),
            subscriptions: RwLock::new(Subscriptions::new()),
            last_client_id: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
        }
    }

    /// Returns an id that no other connection has had since the start.
    pub(super) fn next_client_id(&self) -> u64 {
        self.last_client_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn stats(&self) -> Stats {
        let subscriptions = self.read_subscriptions();
        Stats {
            connections: self.connections.load(Ordering::Relaxed),
            subscriptions: subscriptions.len(),
            messages_in: self.messages_in.load(Ordering::Relaxed),
            messages_out: self.messages_out.load(Ordering::Relaxed),
            slow_consumers: self.slow_consumers.load(Ordering::Relaxed),
        }
    }

    pub(super) fn subscribe(&self, subscription: &Arc<Subscription>) {
        let mut all = self
            .subscriptions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Subscription { subject, queue, .. } = &**subscription;
        all.insert(subject, queue.as_ref(), subscription.clone());
    }

    pub(super) fn unsubscribe<'a>(
        &self,
        subscriptions: impl IntoIterator<Item = &'a Arc<Subscription>>,
    ) {
        let mut all = self
            .subscriptions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for subscription in subscriptions {
            let Subscription { subject, queue, .. } = &**subscription;
            all.remove(subject, queue.as_ref(), subscription);
        }
    }

    /// Delivers a message to all its subscribers. Returns the number of deliveries.
    ///
    /// `excluded` is the publisher's own id if it has disabled echo.
    pub(super) fn publish(
        &self,
        publish: &Publish,
        excluded: Option<u64>,
        scratch: &mut PublishScratch,
    ) -> usize {
        self.messages_in.fetch_add(1, Ordering::Relaxed);
        let mut matches = std::mem::take(&mut scratch.matches);
        {
            let all = self.read_subscriptions();
            all.collect(
                &publish.subject,
                &mut |n| scratch.random_below(n),
                &mut matches,
            );
        }
        let mut delivered = 0;
        for subscription in matches.plain.drain(..) {
            if excluded != Some(subscription.client.id) {
                delivered += usize::from(self.deliver(&subscription, publish, scratch));
            }
        }
        for pick in matches.queues.drain(..) {
            delivered += usize::from(self.deliver_to_queue(&pick, publish, excluded, scratch));
        }
        scratch.matches = matches;
        self.messages_out
            .fetch_add(delivered as u64, Ordering::Relaxed);
        delivered
    }

    /// Returns the subscription on which the publisher awaits the reply to its request.
    pub(super) fn reply_subscription(
        &self,
        client: &Client,
        reply: &Text,
    ) -> Option<Arc<Subscription>> {
        let mut matches = Matches::default();
        let all = self.read_subscriptions();
        all.collect(reply, &mut |_| 0, &mut matches);
        matches
            .plain
            .into_iter()
            .find(|subscription| subscription.client.id == client.id)
    }

    /// Appends to the pending data of a client, which is flushed at the end of the batch.
    pub(super) fn send(
        &self,
        client: &Arc<Client>,
        scratch: &mut PublishScratch,
        put: impl FnOnce(&mut bytes::BytesMut),
    ) -> bool {
        match client.outbound.append(put) {
            Appended::FlushRequired => scratch.to_flush.push(client.clone()),
            Appended::FlushPending => {}
            Appended::Closed => return false,
            Appended::Overflow => {
                self.disconnect(client, DisconnectReason::SlowConsumer);
                return false;
            }
        }
        true
    }

    /// Ends a connection for the given reason.
    pub(super) fn disconnect(&self, client: &Client, reason: DisconnectReason) {
        let mut stored = client
            .disconnect_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if stored.replace(reason).is_none() && reason == DisconnectReason::SlowConsumer {
            self.slow_consumers.fetch_add(1, Ordering::Relaxed);
        }
        client.close.cancel();
    }

    fn deliver(
        &self,
        subscription: &Arc<Subscription>,
        publish: &Publish,
        scratch: &mut PublishScratch,
    ) -> bool {
        let max = subscription.max.load(Ordering::Acquire);
        let number = subscription.delivered.fetch_add(1, Ordering::AcqRel) + 1;
        if number > max {
            return false;
        }
        let client = &subscription.client;
        let headers = publish.headers.as_deref();
        let headers = headers.filter(|_| client.headers.load(Ordering::Relaxed));
        let sent = self.send(client, scratch, |output| {
            put_message(
                output,
                publish.subject.as_bytes(),
                subscription.sid.as_bytes(),
                publish.reply.as_ref().map(Text::as_bytes),
                headers,
                &publish.payload,
            );
        });
        if number == max {
            self.unsubscribe([subscription]);
        }
        sent
    }

    fn deliver_to_queue(
        &self,
        pick: &QueuePick<Subscription>,
        publish: &Publish,
        excluded: Option<u64>,
        scratch: &mut PublishScratch,
    ) -> bool {
        let wanted = |member: &Subscription| excluded != Some(member.client.id);
        if wanted(&pick.member) && self.deliver(&pick.member, publish, scratch) {
            return true;
        }
        if pick.members == 1 {
            return false;
        }
        // The selected member has reached its maximum, so another member receives the message.
        let members = {
            let all = self.read_subscriptions();
            all.queue_members(&publish.subject, &pick.queue)
        };
        let mut others = members
            .iter()
            .filter(|member| !Arc::ptr_eq(member, &pick.member));
        others.any(|member| wanted(member) && self.deliver(member, publish, scratch))
    }

    fn read_subscriptions(&self) -> RwLockReadGuard<'_, Subscriptions<Subscription>> {
        self.subscriptions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The value of `max` without a limit.
    pub(super) const UNLIMITED: u64 = u64::MAX;

    /// Returns whether the maximum is reached.
    pub(super) fn is_exhausted(&self) -> bool {
        self.delivered.load(Ordering::Acquire) >= self.max.load(Ordering::Acquire)
    }
}

impl PublishScratch {
    pub(super) fn new(seed: u64) -> Self {
        // A xorshift generator never leaves zero.
        Self {
            matches: Matches::default(),
            to_flush: Vec::new(),
            random: seed | 1,
        }
    }

    /// Takes the clients to flush.
    pub(super) fn take_to_flush(&mut self) -> std::vec::Drain<'_, Arc<Client>> {
        self.to_flush.drain(..)
    }

    /// Returns a number below `n`, distributed well enough to share work among queue members.
    fn random_below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % (n.max(1) as u64)).unwrap_or_default()
    }
}

/// Returns an id that no other broker on this machine has: from port, process and time.
fn server_id(addr: SocketAddr) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    format!("BERTH{nanos:X}P{:X}X{:X}", std::process::id(), addr.port())
}
