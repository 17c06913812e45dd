//! One way of one connection: reads frames, records them, does what the rules say, and passes them on.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::delayed::{Late, Until};
use super::direction::Dialect;
use super::faults::Position;
use super::frame::{Fate, Frame, Kind};
use super::rule::{Action, Decision};

/// Read at once. Large enough for some hundred small messages.
const READ_BYTES: usize = 64 * 1024;

/// One way of a connection, before and after it runs.
pub(super) struct Pump<D: Dialect> {
    shared: Arc<Shared>,
    connection: u64,
    dialect: D,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    output: BytesMut,
    late: Late<D::Op>,
    /// Something came that is no frame: from then on bytes are passed on as they are.
    unreadable: bool,
}

/// Why a pump stopped.
#[derive(Debug)]
pub(super) enum End {
    /// The side that is read from hung up, and everything was passed on.
    HungUp,
    /// One of the sides is lost.
    Lost(io::Error),
    /// A rule says so, or a switch.
    Cut,
}

enum Event {
    Read(io::Result<usize>),
    /// Something that is late may be due.
    Due,
    Cut,
}

impl<D: Dialect> Pump<D> {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: u64,
        dialect: D,
        reader: OwnedReadHalf,
        writer: OwnedWriteHalf,
    ) -> Self {
        Self {
            shared,
            connection,
            dialect,
            reader,
            writer,
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
            late: Late::new(),
            unreadable: false,
        }
    }

    /// Runs until the connection ends. `cut` ends it from outside.
    pub(super) async fn run(&mut self, cut: &CancellationToken) -> End {
        let mut switch = self.shared.switch.watch();
        let mut releases = self.shared.rules.releases();
        let mut hung_up = false;
        loop {
            if !thawed(&mut switch, cut).await {
                return End::Cut;
            }
            let cut_by_rule = self.process();
            if let Some(end) = self.write_out(cut).await {
                return end;
            }
            if cut_by_rule {
                return End::Cut;
            }
            if hung_up && self.late.next().is_none() {
                return End::HungUp;
            }
            match self.event(cut, &mut releases, hung_up).await {
                Event::Read(Ok(0)) => hung_up = true,
                Event::Read(Ok(_)) | Event::Due => {}
                Event::Read(Err(error)) => return End::Lost(error),
                Event::Cut => return End::Cut,
            }
        }
    }

    /// Tells the receiving side that nothing more comes.
    pub(super) async fn hang_up(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.writer.shutdown().await;
    }

    /// Reads and forgets until the sending side hangs up. A socket closed on unread input is reset, and
    /// what was written to it last may be lost.
    pub(super) async fn swallow(&mut self) {
        loop {
            self.input.clear();
            self.input.reserve(READ_BYTES);
            if !matches!(self.reader.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }

    async fn event(
        &mut self,
        cut: &CancellationToken,
        releases: &mut watch::Receiver<u64>,
        hung_up: bool,
    ) -> Event {
        self.input
            .reserve(self.dialect.wanted_bytes().max(READ_BYTES / 4));
        let next = self.late.next();
        let due = tokio::time::sleep_until(next.unwrap_or_else(Instant::now));
        tokio::select! {
            biased;
            () = cut.cancelled() => Event::Cut,
            _ = releases.changed() => Event::Due,
            () = due, if next.is_some() => Event::Due,
            read = self.reader.read_buf(&mut self.input), if !hung_up => Event::Read(read),
        }
    }

    /// Moves everything that can go from the input and the late frames to the output. True when the
    /// connection is to be cut behind it.
    fn process(&mut self) -> bool {
        for op in self.late.take_due(Instant::now()) {
            D::encode(&op, &mut self.output);
        }
        while !self.unreadable {
            match self.dialect.next(&mut self.input) {
                Ok(Some(op)) => {
                    if self.judge(op) {
                        return true;
                    }
                }
                Ok(None) => return false,
                Err(error) => {
                    self.unreadable = true;
                    self.note(Kind::Unreadable, &error.to_string());
                }
            }
        }
        self.output.extend_from_slice(&self.input.split());
        false
    }

    /// Records a frame and does with it what the rules say. True when the connection is to be cut.
    fn judge(&mut self, op: D::Op) -> bool {
        let frame = D::frame(self.connection, &op);
        let bytes = frame.payload_bytes;
        let (record, rules) = (&self.shared.record, &self.shared.rules);
        let decision = record.add(frame, |frame| {
            let decision = rules.decide(frame);
            if matches!(frame.fate, Fate::Held | Fate::Delayed(_))
                && !self.late.has_room(frame.payload_bytes)
            {
                frame.fate = Fate::Overflowed;
                return decision.map(|decision| Decision {
                    action: Action::Drop,
                    ..decision
                });
            }
            decision
        });
        let op = D::adjust(op);
        let Some(Decision { action, rule }) = decision else {
            D::encode(&op, &mut self.output);
            return false;
        };
        match action {
            Action::Drop => {}
            Action::Delay(late) => self
                .late
                .push(Until::Time(Instant::now() + late), op, bytes),
            Action::Hold => self.late.push(Until::Release(rule), op, bytes),
            Action::Duplicate => {
                D::encode(&op, &mut self.output);
                D::encode(&op, &mut self.output);
            }
            Action::Rewrite(make) => {
                let make = |payload: &Bytes| make(payload);
                D::encode(&D::rewrite(op, &make), &mut self.output);
            }
            Action::CutBefore => return true,
            Action::CutAfter => {
                D::encode(&op, &mut self.output);
                return true;
            }
        }
        false
    }

    async fn write_out(&mut self, cut: &CancellationToken) -> Option<End> {
        let written = tokio::select! {
            biased;
            written = self.writer.write_all_buf(&mut self.output) => written,
            () = cut.cancelled() => return Some(End::Cut),
        };
        written.err().map(End::Lost)
    }

    fn note(&self, kind: Kind, text: &str) {
        let frame = Frame::note(self.connection, D::WAY, kind, text);
        self.shared.record.add(frame, |_| ());
    }
}

/// Waits out a freeze. False when the connection is cut meanwhile.
async fn thawed(switch: &mut watch::Receiver<Position>, cut: &CancellationToken) -> bool {
    if switch.borrow().freezes == 0 {
        return true;
    }
    tokio::select! {
        () = cut.cancelled() => false,
        position = switch.wait_for(|position| position.freezes == 0) => position.is_ok(),
    }
}
