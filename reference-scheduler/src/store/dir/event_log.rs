//! Repeated events of objects, which are counted instead of written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::Key;
use crate::core::ObjectEvent;

/// Time for which equal events are counted, the same as that of a series of Kubernetes Events.
const WINDOW: Duration = Duration::from_secs(360);
/// Maximum number of events that are remembered; beyond it all are forgotten.
const EVENTS_MAX: usize = 1000;

/// The recent events.
#[derive(Debug, Default)]
pub(super) struct RecentEvents {
    by_event: BTreeMap<(Key, &'static str, String), Repeats>,
}

#[derive(Debug)]
struct Repeats {
    written_at: Instant,
    count: u64,
}

impl RecentEvents {
    /// Returns the number of equal events since the latest one that was written, including this
    /// one, or `None` if this event is only counted.
    pub(super) fn count(&mut self, event: &ObjectEvent, now: Instant) -> Option<u64> {
        if self.by_event.len() >= EVENTS_MAX {
            self.by_event.clear();
        }
        let key = (event.key.clone(), event.reason, event.message.clone());
        let Some(repeats) = self.by_event.get_mut(&key) else {
            let first = Repeats {
                written_at: now,
                count: 0,
            };
            self.by_event.insert(key, first);
            return Some(1);
        };
        repeats.count += 1;
        if now.saturating_duration_since(repeats.written_at) < WINDOW {
            return None;
        }
        repeats.written_at = now;
        Some(std::mem::take(&mut repeats.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;
    use crate::core::ObjectEventKind;

    #[test]
    fn equal_events_are_counted() {
        let event = |message: &str| ObjectEvent {
            key: Key::new(Kind::Workload, "default", "a"),
            uid: "u".to_owned(),
            kind: ObjectEventKind::Warning,
            reason: "Failed",
            message: message.to_owned(),
        };
        let (mut recent, start) = (RecentEvents::default(), Instant::now());
        assert_eq!(recent.count(&event("x"), start), Some(1));
        for _ in 0..9 {
            assert_eq!(recent.count(&event("x"), start), None);
        }
        assert_eq!(recent.count(&event("y"), start), Some(1));
        assert_eq!(recent.count(&event("x"), start + WINDOW), Some(10));
        for number in 0..3 * EVENTS_MAX {
            recent.count(&event(&number.to_string()), start);
            assert!(recent.by_event.len() <= EVENTS_MAX);
        }
    }
}
