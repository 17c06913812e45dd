//! What all connections share: who is there, who wants what, and the way of a message between them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use super::outbound::{Appended, Outbound};
use crate::frame::{Publish, Text, put_message};
use crate::interest::{Interest, Matches, QueuePick};
use crate::{BrokerOptions, Stats};

/// The middle of a broker.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) options: BrokerOptions,
    pub(super) addr: SocketAddr,
    pub(super) server_id: String,
    pub(super) connections: AtomicUsize,
    pub(super) slow_consumers: AtomicU64,
    interest: RwLock<Interest<Subscription>>,
    clients_ever: AtomicU64,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
}

/// One connected client, as the others see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) outbound: Outbound,
    /// Understands headers; known once it has said CONNECT.
    pub(super) headers: AtomicBool,
    /// Cancelled when the connection has to end.
    pub(super) cut: CancellationToken,
    /// Why it was cut, the first reason only.
    pub(super) cut_reason: Mutex<Option<CutReason>>,
}

/// Why the broker ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutReason {
    SlowConsumer,
    Stale,
    AuthTimeout,
}

/// One subscription of one client.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) client: Arc<Client>,
    pub(super) subject: Text,
    pub(super) queue: Option<Text>,
    pub(super) sid: Text,
    /// Messages handed over so far.
    pub(super) delivered: AtomicU64,
    /// It ends after this many; [`Subscription::UNLIMITED`] when it does not.
    pub(super) max: AtomicU64,
}

/// What a publisher's connection keeps between messages, so that they cost no allocation.
#[derive(Debug)]
pub(super) struct Scratch {
    matches: Matches<Subscription>,
    /// Clients that got something and must be flushed at the end of the batch.
    touched: Vec<Arc<Client>>,
    random: u64,
}

impl Hub {
    pub(super) fn new(options: BrokerOptions, addr: SocketAddr) -> Self {
        Self {
            server_id: server_id(addr),
            options,
            addr,
            connections: AtomicUsize::new(0),
            slow_consumers: AtomicU64::new(0),
            interest: RwLock::new(Interest::new()),
            clients_ever: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
        }
    }

    /// An id that no connection of this run had before.
    pub(super) fn next_client_id(&self) -> u64 {
        self.clients_ever.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn stats(&self) -> Stats {
        let interest = self.interest.read().unwrap_or_else(PoisonError::into_inner);
        Stats {
            connections: self.connections.load(Ordering::Relaxed),
            subscriptions: interest.len(),
            messages_in: self.messages_in.load(Ordering::Relaxed),
            messages_out: self.messages_out.load(Ordering::Relaxed),
            slow_consumers: self.slow_consumers.load(Ordering::Relaxed),
        }
    }

    pub(super) fn subscribe(&self, subscription: &Arc<Subscription>) {
        let mut interest = self
            .interest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Subscription { subject, queue, .. } = &**subscription;
        interest.insert(subject, queue.as_ref(), subscription.clone());
    }

    pub(super) fn unsubscribe<'a>(
        &self,
        subscriptions: impl IntoIterator<Item = &'a Arc<Subscription>>,
    ) {
        let mut interest = self
            .interest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for subscription in subscriptions {
            let Subscription { subject, queue, .. } = &**subscription;
            interest.remove(subject, queue.as_ref(), subscription);
        }
    }

    /// Hands a message to everybody who wants it. Gives back how many got it.
    ///
    /// `skipped` is the publisher's own id when it does not want to hear itself.
    pub(super) fn publish(
        &self,
        publish: &Publish,
        skipped: Option<u64>,
        scratch: &mut Scratch,
    ) -> usize {
        self.messages_in.fetch_add(1, Ordering::Relaxed);
        let mut matches = std::mem::take(&mut scratch.matches);
        {
            let interest = self.interest.read().unwrap_or_else(PoisonError::into_inner);
            interest.collect(&publish.subject, &mut |n| scratch.draw(n), &mut matches);
        }
        let mut delivered = 0;
        for subscription in matches.plain.drain(..) {
            if skipped != Some(subscription.client.id) {
                delivered += usize::from(self.deliver(&subscription, publish, scratch));
            }
        }
        for pick in matches.queues.drain(..) {
            delivered += usize::from(self.deliver_to_queue(&pick, publish, skipped, scratch));
        }
        scratch.matches = matches;
        self.messages_out
            .fetch_add(delivered as u64, Ordering::Relaxed);
        delivered
    }

    /// The publisher's own subscription on which it awaits the answer to a request.
    pub(super) fn reply_subscription(
        &self,
        client: &Client,
        reply: &Text,
    ) -> Option<Arc<Subscription>> {
        let mut matches = Matches::default();
        let interest = self.interest.read().unwrap_or_else(PoisonError::into_inner);
        interest.collect(reply, &mut |_| 0, &mut matches);
        matches
            .plain
            .into_iter()
            .find(|subscription| subscription.client.id == client.id)
    }

    /// Appends to one client; it is flushed with the batch.
    pub(super) fn send(
        &self,
        client: &Arc<Client>,
        scratch: &mut Scratch,
        put: impl FnOnce(&mut bytes::BytesMut),
    ) -> bool {
        match client.outbound.append(put) {
            Appended::FlushIsYours => scratch.touched.push(client.clone()),
            Appended::FlushIsPromised => {}
            Appended::Closed => return false,
            Appended::Overflow => {
                self.cut(client, CutReason::SlowConsumer);
                return false;
            }
        }
        true
    }

    /// Ends a connection for a reason of the broker's.
    pub(super) fn cut(&self, client: &Client, reason: CutReason) {
        let mut first = client
            .cut_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if first.replace(reason).is_none() && reason == CutReason::SlowConsumer {
            self.slow_consumers.fetch_add(1, Ordering::Relaxed);
        }
        client.cut.cancel();
    }

    fn deliver(
        &self,
        subscription: &Arc<Subscription>,
        publish: &Publish,
        scratch: &mut Scratch,
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
        skipped: Option<u64>,
        scratch: &mut Scratch,
    ) -> bool {
        let wanted = |member: &Subscription| skipped != Some(member.client.id);
        if wanted(&pick.member) && self.deliver(&pick.member, publish, scratch) {
            return true;
        }
        if pick.members == 1 {
            return false;
        }
        // The member that was drawn is at its end: any other will do.
        let members = {
            let interest = self.interest.read().unwrap_or_else(PoisonError::into_inner);
            interest.queue_members(&publish.subject, &pick.queue)
        };
        let mut others = members
            .iter()
            .filter(|member| !Arc::ptr_eq(member, &pick.member));
        others.any(|member| wanted(member) && self.deliver(member, publish, scratch))
    }
}

impl Subscription {
    /// The `max` of a subscription that goes on until it is ended.
    pub(super) const UNLIMITED: u64 = u64::MAX;

    /// Whether no message may follow.
    pub(super) fn is_used_up(&self) -> bool {
        self.delivered.load(Ordering::Acquire) >= self.max.load(Ordering::Acquire)
    }
}

impl Scratch {
    pub(super) fn new(seed: u64) -> Self {
        // Xorshift stands still on zero.
        Self {
            matches: Matches::default(),
            touched: Vec::new(),
            random: seed | 1,
        }
    }

    /// The clients that must be flushed now.
    pub(super) fn take_touched(&mut self) -> std::vec::Drain<'_, Arc<Client>> {
        self.touched.drain(..)
    }

    /// A number below `n`, spread well enough to share work among queue members.
    fn draw(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % (n.max(1) as u64)).unwrap_or_default()
    }
}

/// Unlike that of any other broker around: by port, process and time.
fn server_id(addr: SocketAddr) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    format!("BERTH{nanos:X}P{:X}X{:X}", std::process::id(), addr.port())
}
