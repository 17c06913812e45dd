//! Forwards one direction of one connection: parses frames, records them, applies the rules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::delayed::{DelayQueue, Until};
use super::direction::DirectionCodec;
use super::faults::FaultState;
use super::frame::{Disposition, Frame, FrameKind};
use super::rule::{Action, Decision};

/// Size of the read buffer: several hundred small messages.
const READ_BYTES: usize = 64 * 1024;

/// Forwards one direction of a connection.
pub(super) struct Forwarder<D: DirectionCodec> {
    shared: Arc<Shared>,
    connection: u64,
    codec: D,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    delayed: DelayQueue<D::Op>,
    /// Whether the input was not a frame, so that all further bytes are forwarded unparsed.
    unreadable: bool,
}

/// Reasons for the end of a forwarder.
#[derive(Debug)]
pub(super) enum End {
    /// The sender closed the connection, and everything was forwarded.
    Closed,
    /// A read or a write failed.
    Lost(io::Error),
    /// A rule or the tap closes the connection.
    ClosedByTap,
}

enum Event {
    Read(io::Result<usize>),
    /// A delayed frame may be due.
    Due,
    Cancelled,
}

impl<D: DirectionCodec> Forwarder<D> {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: u64,
        codec: D,
        reader: OwnedReadHalf,
        writer: OwnedWriteHalf,
    ) -> Self {
        Self {
            shared,
            connection,
            codec,
            reader,
            writer,
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
            delayed: DelayQueue::new(),
            unreadable: false,
        }
    }

    /// Runs until the connection ends or `cancel` is cancelled.
    pub(super) async fn run(&mut self, cancel: &CancellationToken) -> End {
        let mut faults = self.shared.faults.watch();
        let mut releases = self.shared.rules.releases();
        let mut closed = false;
        loop {
            if !wait_while_frozen(&mut faults, cancel).await {
                return End::ClosedByTap;
            }
            let closed_by_rule = self.process();
            if let Some(end) = self.write_output(cancel).await {
                return end;
            }
            if closed_by_rule {
                return End::ClosedByTap;
            }
            if closed && self.delayed.next_due().is_none() {
                return End::Closed;
            }
            match self.next_event(cancel, &mut releases, closed).await {
                Event::Read(Ok(0)) => closed = true,
                Event::Read(Ok(_)) | Event::Due => {}
                Event::Read(Err(error)) => return End::Lost(error),
                Event::Cancelled => return End::ClosedByTap,
            }
        }
    }

    /// Closes the connection towards the receiver.
    pub(super) async fn shut_down_writer(&mut self) {
        // The connection may be closed already.
        let _ = self.writer.shutdown().await;
    }

    /// Reads and discards input until the sender closes the connection. Closing a socket with
    /// unread input resets the connection, and the receiver may miss the last data.
    pub(super) async fn discard_input(&mut self) {
        loop {
            self.input.clear();
            self.input.reserve(READ_BYTES);
            if !matches!(self.reader.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }

    async fn next_event(
        &mut self,
        cancel: &CancellationToken,
        releases: &mut watch::Receiver<u64>,
        closed: bool,
    ) -> Event {
        self.input
            .reserve(self.codec.required_bytes().max(READ_BYTES / 4));
        let next = self.delayed.next_due();
        let due = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
        tokio::select! {
            biased;
            () = cancel.cancelled() => Event::Cancelled,
            _ = releases.changed() => Event::Due,
            () = due, if next.is_some() => Event::Due,
            read = self.reader.read_buf(&mut self.input), if !closed => Event::Read(read),
        }
    }

    /// Moves due frames and parsed input to the output. Returns true if a rule closes the
    /// connection after that output.
    fn process(&mut self) -> bool {
        for op in self.delayed.take_due(Instant::now()) {
            D::encode(&op, &mut self.output);
        }
        while !self.unreadable {
            match self.codec.next(&mut self.input) {
                Ok(Some(op)) => {
                    if self.forward(op) {
                        return true;
                    }
                }
                Ok(None) => return false,
                Err(error) => {
                    self.unreadable = true;
                    self.record_event(FrameKind::Unreadable, &error.to_string());
                }
            }
        }
        self.output.extend_from_slice(&self.input.split());
        false
    }

    /// Records a frame and applies the rules. Returns true if a rule closes the connection.
    fn forward(&mut self, op: D::Op) -> bool {
        let frame = D::frame(self.connection, &op);
        let bytes = frame.payload_bytes;
        let (recording, rules) = (&self.shared.recording, &self.shared.rules);
        let decision = recording.add(frame, |frame| {
            let decision = rules.decide(frame);
            if matches!(
                frame.disposition,
                Disposition::Held | Disposition::Delayed(_)
            ) && !self.delayed.has_room(frame.payload_bytes)
            {
                frame.disposition = Disposition::Overflowed;
                return decision.map(|decision| Decision {
                    action: Action::Drop,
                    ..decision
                });
            }
            decision
        });
        let max_payload = self.shared.announced_max_payload.load(Ordering::Relaxed);
        let op = D::rewrite_info(op, max_payload);
        let Some(Decision { action, rule }) = decision else {
            D::encode(&op, &mut self.output);
            return false;
        };
        match action {
            Action::Drop => {}
            Action::Delay(delay) => {
                self.delayed
                    .push(Until::Time(Instant::now() + delay), op, bytes)
            }
            Action::Hold => self.delayed.push(Until::Release(rule), op, bytes),
            Action::Duplicate => {
                D::encode(&op, &mut self.output);
                D::encode(&op, &mut self.output);
            }
            Action::Rewrite(new_payload) => {
                let new_payload = |payload: &Bytes| new_payload(payload);
                D::encode(&D::map_payload(op, &new_payload), &mut self.output);
            }
            Action::DisconnectBefore => return true,
            Action::DisconnectAfter => {
                D::encode(&op, &mut self.output);
                return true;
            }
        }
        false
    }

    async fn write_output(&mut self, cancel: &CancellationToken) -> Option<End> {
        let written = tokio::select! {
            biased;
            written = self.writer.write_all_buf(&mut self.output) => written,
            () = cancel.cancelled() => return Some(End::ClosedByTap),
        };
        written.err().map(End::Lost)
    }

    fn record_event(&self, kind: FrameKind, text: &str) {
        let frame = Frame::with_text(self.connection, D::DIRECTION, kind, text);
        self.shared.recording.add(frame, |_| ());
    }
}

/// Waits until no freeze is active. Returns false if the connection is closed during the wait.
async fn wait_while_frozen(
    faults: &mut watch::Receiver<FaultState>,
    cancel: &CancellationToken,
) -> bool {
    if faults.borrow().freezes == 0 {
        return true;
    }
    tokio::select! {
        () = cancel.cancelled() => false,
        state = faults.wait_for(|state| state.freezes == 0) => state.is_ok(),
    }
}
