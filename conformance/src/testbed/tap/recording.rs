//! The recording of all frames: bounded, numbered, awaitable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::correlation::Correlation;
use super::frame::Frame;

/// Maximum size of recorded payloads and headers: a minute of a busy suite with payloads of a
/// megabyte.
const RECORDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Maximum number of recorded frames, at some 300 bytes each: hours of a suite, minutes of a flood.
const RECORDED_FRAMES_MAX: usize = 200_000;
/// Number of frames by which a live subscriber may lag before it misses some.
const LIVE_FRAMES_MAX: usize = 16 * 1024;
/// Maximum size of payloads and headers that wait for live subscribers. Further frames are
/// delivered without them.
const LIVE_BYTES_MAX: usize = RECORDED_BYTES_MAX;

/// A position in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub(super) u64);

impl Mark {
    /// The beginning of the recording.
    pub const START: Self = Self(0);
}

/// Frames and payloads that the recording has discarded to stay within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Frames whose payload and headers were discarded.
    pub payloads: u64,
    /// Frames that were discarded completely.
    pub frames: u64,
    /// Frames that live subscribers received without payload and headers, because one of them
    /// lagged.
    pub live_payloads: u64,
}

/// No frame satisfied the condition before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no matching frame passed the tap before the deadline")]
pub struct NoMatchingFrame;

#[derive(Debug)]
pub(super) struct Recording {
    recorded: Mutex<RecordedFrames>,
    live: broadcast::Sender<Arc<Frame>>,
    /// Number of the next frame.
    next: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct RecordedFrames {
    frames: VecDeque<Arc<Frame>>,
    /// Number of frames at the front without payload.
    payload_free: usize,
    bytes: usize,
    next: u64,
    losses: Losses,
    correlation: Correlation,
    live: LiveQueue,
}

/// Sizes of the frames that wait for the slowest live subscriber.
#[derive(Debug, Default)]
struct LiveQueue {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self {
            recorded: Mutex::default(),
            live: broadcast::Sender::new(LIVE_FRAMES_MAX),
            next: watch::Sender::new(0),
        }
    }

    /// Numbers and correlates a frame, and passes it to `decide` before it is recorded.
    pub(super) fn add<T>(&self, mut frame: Frame, decide: impl FnOnce(&mut Frame) -> T) -> T {
        let mut recorded = self.lock();
        frame.number = recorded.next;
        recorded.next += 1;
        recorded.correlation.correlate(&mut frame);
        let decision = decide(&mut frame);
        let frame = Arc::new(frame);
        recorded.push(frame.clone());
        // Sent while the lock is held, so that subscribers receive the frames in order.
        if self.live.receiver_count() > 0 {
            let live = recorded.live_frame(frame, self.live.len());
            // The only subscriber may have unsubscribed.
            let _ = self.live.send(live);
        }
        let next = recorded.next;
        drop(recorded);
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
        mut condition: impl FnMut(&Frame) -> bool,
        deadline: Instant,
    ) -> Result<Arc<Frame>, NoMatchingFrame> {
        let mut next = self.next.subscribe();
        let mut from = from;
        loop {
            next.mark_unchanged();
            let unseen = self.since(from);
            if let Some(found) = unseen.iter().find(|frame| condition(frame)) {
                return Ok(found.clone());
            }
            if let Some(last) = unseen.last() {
                from = Mark(last.number + 1);
            }
            match tokio::time::timeout_at(deadline, next.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(NoMatchingFrame),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, RecordedFrames> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordedFrames {
    fn push(&mut self, frame: Arc<Frame>) {
        self.bytes += size(&frame);
        self.frames.push_back(frame);
        while self.frames.len() > RECORDED_FRAMES_MAX {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.payload_free = self.payload_free.saturating_sub(1);
            self.losses.frames += 1;
        }
        while self.bytes > RECORDED_BYTES_MAX {
            let Some(oldest) = self.frames.get_mut(self.payload_free) else {
                break;
            };
            self.payload_free += 1;
            if size(oldest) > 0 {
                self.bytes -= size(oldest);
                // Subject and ids share the memory of the payload, so they are copied.
                *oldest = Arc::new(oldest.without_payload());
                self.losses.payloads += 1;
            }
        }
    }

    /// Returns the frame for live subscribers; `queued` frames wait for the slowest of them.
    fn live_frame(&mut self, frame: Arc<Frame>, queued: usize) -> Arc<Frame> {
        while self.live.sizes.len() > queued {
            self.live.bytes -= self.live.sizes.pop_front().unwrap_or_default();
        }
        let fits = self.live.bytes + size(&frame) <= LIVE_BYTES_MAX;
        let frame = if fits {
            frame
        } else {
            self.losses.live_payloads += 1;
            Arc::new(frame.without_payload())
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
    use crate::testbed::tap::frame::{Direction, FrameKind};

    fn frame(payload_bytes: usize) -> Frame {
        let mut frame = Frame::empty(1, Direction::FromTarget, FrameKind::Publish);
        frame.payload = Bytes::from(vec![0; payload_bytes]);
        frame.payload_bytes = payload_bytes;
        frame
    }

    #[test]
    fn discards_the_oldest_payloads_and_counts_them() {
        let recording = Recording::new();
        let size = RECORDED_BYTES_MAX / 4;
        for _ in 0..6 {
            recording.add(frame(size), |_| ());
        }
        let frames = recording.since(Mark::START);
        let complete: Vec<_> = frames
            .iter()
            .map(|frame| frame.payload.len() == size)
            .collect();
        assert_eq!(complete, [false, false, true, true, true, true]);
        assert!(frames.iter().all(|frame| frame.payload_bytes == size));
        assert_eq!(
            recording.losses(),
            Losses {
                payloads: 2,
                ..Losses::default()
            }
        );
    }

    #[test]
    fn slow_subscriber_receives_frames_without_payload() {
        let recording = Recording::new();
        let mut slow = recording.subscribe();
        let size = LIVE_BYTES_MAX / 4;
        let send = |count| {
            for _ in 0..count {
                recording.add(frame(size), |_| ());
            }
        };
        send(6);
        let mut receive = || slow.try_recv().map(|frame| frame.payload.len());
        for _ in 0..4 {
            assert_eq!(receive(), Ok(size));
        }
        assert_eq!((receive(), receive()), (Ok(0), Ok(0)));
        assert_eq!(recording.losses().live_payloads, 2);
        for _ in 0..10 {
            send(1);
            assert_eq!(receive(), Ok(size));
        }
        assert_eq!(recording.losses().live_payloads, 2);
    }

    #[test]
    fn discards_the_oldest_frames_and_continues_the_numbers() {
        let recording = Recording::new();
        for _ in 0..RECORDED_FRAMES_MAX + 3 {
            recording.add(frame(0), |_| ());
        }
        let frames = recording.since(Mark::START);
        assert_eq!(frames.len(), RECORDED_FRAMES_MAX);
        assert_eq!(frames.first().map(|frame| frame.number), Some(3));
        assert_eq!(
            recording.losses(),
            Losses {
                frames: 3,
                ..Losses::default()
            }
        );
        assert_eq!(
            recording.since(Mark(RECORDED_FRAMES_MAX as u64 + 2)).len(),
            1
        );
        assert!(recording.since(recording.mark()).is_empty());
    }
}
