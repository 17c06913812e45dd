//! The record of what passed the tap: bounded, numbered, and awaited.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::correlation::Correlation;
use super::frame::Frame;

/// Payloads and headers kept at one time: a minute of a busy suite with megabyte payloads among it.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Frames kept at one time, at some 300 bytes each: hours of a suite, minutes of a flood.
const KEPT_FRAMES_MAX: usize = 200_000;
/// How many frames a live subscriber may fall behind before it misses some.
const LIVE_FRAMES: usize = 16 * 1024;
/// Payloads and headers that may wait for live subscribers. Frames beyond it are handed over empty.
const LIVE_BYTES_MAX: usize = KEPT_BYTES_MAX;

/// A position in the record: frames from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub(super) u64);

impl Mark {
    /// The beginning.
    pub const START: Self = Self(0);
}

/// What the record had to give up to stay within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Frames whose payload and headers were let go of.
    pub emptied: u64,
    /// Frames that are no longer there at all.
    pub forgotten: u64,
    /// Frames that live subscribers got without payload and headers, because one of them was slow.
    pub emptied_live: u64,
}

/// No frame came that satisfied the condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such frame passed the tap before the deadline")]
pub struct NotSeen;

#[derive(Debug)]
pub(super) struct Record {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<Frame>>,
    /// The number that the next frame gets.
    next: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    frames: VecDeque<Arc<Frame>>,
    /// How many of the frames at the front are emptied.
    emptied_now: usize,
    bytes: usize,
    next: u64,
    losses: Losses,
    correlation: Correlation,
    live: LiveQueue,
}

/// The sizes of what waits for the slowest live subscriber.
#[derive(Debug, Default)]
struct LiveQueue {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            live: broadcast::Sender::new(LIVE_FRAMES),
            next: watch::Sender::new(0),
        }
    }

    /// Numbers a frame, finds out what it answers, and lets `decide` see it before it is kept.
    pub(super) fn add<T>(&self, mut frame: Frame, decide: impl FnOnce(&mut Frame) -> T) -> T {
        let mut kept = self.lock();
        frame.number = kept.next;
        kept.next += 1;
        kept.correlation.note(&mut frame);
        let decision = decide(&mut frame);
        let frame = Arc::new(frame);
        kept.keep(frame.clone());
        // Under the lock, so that everybody sees the frames in the order of their numbers.
        if self.live.receiver_count() > 0 {
            let live = kept.live_frame(frame, self.live.len());
            // Nobody listening any more is no error.
            let _ = self.live.send(live);
        }
        let next = kept.next;
        drop(kept);
        self.next.send_if_modified(|known| {
            let newer = next > *known;
            *known = next.max(*known);
            newer
        });
        decision
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.lock().next)
    }

    pub(super) fn since(&self, mark: Mark) -> Vec<Arc<Frame>> {
        self.lock().since(mark).cloned().collect()
    }

    pub(super) fn losses(&self) -> Losses {
        self.lock().losses
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.live.subscribe()
    }

    pub(super) async fn wait_for(
        &self,
        from: Mark,
        mut wanted: impl FnMut(&Frame) -> bool,
        deadline: Instant,
    ) -> Result<Arc<Frame>, NotSeen> {
        let mut next = self.next.subscribe();
        let mut from = from;
        loop {
            next.mark_unchanged();
            let fresh = self.since(from);
            if let Some(found) = fresh.iter().find(|frame| wanted(frame)) {
                return Ok(found.clone());
            }
            if let Some(last) = fresh.last() {
                from = Mark(last.number + 1);
            }
            match tokio::time::timeout_at(deadline, next.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(NotSeen),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, frame: Arc<Frame>) {
        self.bytes += size(&frame);
        self.frames.push_back(frame);
        while self.frames.len() > KEPT_FRAMES_MAX {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.emptied_now = self.emptied_now.saturating_sub(1);
            self.losses.forgotten += 1;
        }
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.frames.get_mut(self.emptied_now) else {
                break;
            };
            self.emptied_now += 1;
            if size(oldest) > 0 {
                self.bytes -= size(oldest);
                // The texts of a frame share one piece of memory with its payload: all are copied out.
                *oldest = Arc::new(oldest.emptied());
                self.losses.emptied += 1;
            }
        }
    }

    /// The frame as live subscribers get it, while `queued` frames wait for the slowest of them.
    fn live_frame(&mut self, frame: Arc<Frame>, queued: usize) -> Arc<Frame> {
        while self.live.sizes.len() > queued {
            self.live.bytes -= self.live.sizes.pop_front().unwrap_or_default();
        }
        let fits = self.live.bytes + size(&frame) <= LIVE_BYTES_MAX;
        let frame = match fits {
            true => frame,
            false => {
                self.losses.emptied_live += 1;
                Arc::new(frame.emptied())
            }
        };
        self.live.sizes.push_back(size(&frame));
        self.live.bytes += size(&frame);
        frame
    }

    fn since(&self, mark: Mark) -> impl Iterator<Item = &Arc<Frame>> {
        let first = self.frames.front().map_or(0, |frame| frame.number);
        let skipped = usize::try_from(mark.0.saturating_sub(first)).unwrap_or(usize::MAX);
        self.frames.iter().skip(skipped)
    }
}

fn size(frame: &Frame) -> usize {
    frame.payload.len() + frame.headers.as_ref().map_or(0, |headers| headers.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::testbed::tap::frame::{Direction, Kind};

    fn frame(payload_bytes: usize) -> Frame {
        let mut frame = Frame::bare(1, Direction::FromTarget, Kind::Publish);
        frame.payload = Bytes::from(vec![0; payload_bytes]);
        frame.payload_bytes = payload_bytes;
        frame
    }

    #[test]
    fn the_oldest_payloads_are_let_go_and_counted() {
        let record = Record::new();
        let size = KEPT_BYTES_MAX / 4;
        for _ in 0..6 {
            record.add(frame(size), |_| ());
        }
        let frames = record.since(Mark::START);
        let kept: Vec<_> = frames
            .iter()
            .map(|frame| frame.payload.len() == size)
            .collect();
        assert_eq!(kept, [false, false, true, true, true, true]);
        assert!(frames.iter().all(|frame| frame.payload_bytes == size));
        assert_eq!(
            record.losses(),
            Losses {
                emptied: 2,
                ..Losses::default()
            }
        );
    }

    #[test]
    fn a_slow_live_subscriber_gets_empty_frames_and_a_quick_one_all() {
        let record = Record::new();
        let mut slow = record.subscribe();
        let size = LIVE_BYTES_MAX / 4;
        let sent = |count| {
            for _ in 0..count {
                record.add(frame(size), |_| ());
            }
        };
        sent(6);
        let mut take = || slow.try_recv().map(|frame| frame.payload.len());
        for _ in 0..4 {
            assert_eq!(take(), Ok(size));
        }
        assert_eq!((take(), take()), (Ok(0), Ok(0)));
        assert_eq!(record.losses().emptied_live, 2);
        for _ in 0..10 {
            sent(1);
            assert_eq!(take(), Ok(size));
        }
        assert_eq!(record.losses().emptied_live, 2);
    }

    #[test]
    fn forgotten_frames_are_counted_and_numbers_go_on() {
        let record = Record::new();
        for _ in 0..KEPT_FRAMES_MAX + 3 {
            record.add(frame(0), |_| ());
        }
        let frames = record.since(Mark::START);
        assert_eq!(frames.len(), KEPT_FRAMES_MAX);
        assert_eq!(frames.first().map(|frame| frame.number), Some(3));
        assert_eq!(
            record.losses(),
            Losses {
                forgotten: 3,
                ..Losses::default()
            }
        );
        assert_eq!(record.since(Mark(KEPT_FRAMES_MAX as u64 + 2)).len(), 1);
        assert!(record.since(record.mark()).is_empty());
    }
}
