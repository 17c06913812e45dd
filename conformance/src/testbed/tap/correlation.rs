//! Correlation of replies with their requests, by the reply subject.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use berth_broker::frame::Text;
use bytes::Bytes;

use super::frame::{CorrelatedRequest, Frame};

/// Maximum number of remembered requests. The oldest are forgotten first, because they timed out
/// long ago.
const REQUESTS_MAX: usize = 16 * 1024;
/// Maximum size of the remembered part of a request's payload. The part contains the id, which is
/// near the beginning and has at most 256 bytes in a request that a host accepts.
const PAYLOAD_BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Correlation {
    requests: HashMap<Text, Arc<CorrelatedRequest>>,
    /// Reply subjects, oldest first.
    order: VecDeque<Text>,
}

impl Correlation {
    /// Sets the request that a message replies to, and remembers the message if it is a request
    /// itself.
    pub(super) fn correlate(&mut self, frame: &mut Frame) {
        if !frame.is_message() {
            return;
        }
        let Some(subject) = &frame.subject else {
            return;
        };
        frame.in_reply_to = self.requests.get(subject).cloned();
        let Some(reply) = &frame.reply else { return };
        let end = frame.payload.len().min(PAYLOAD_BYTES_MAX);
        let request = CorrelatedRequest {
            number: frame.number,
            at: frame.at,
            subject: Text::from(subject.as_str()),
            payload: Bytes::copy_from_slice(frame.payload.get(..end).unwrap_or_default()),
        };
        // Copied: the texts of the frame share memory with its payload.
        let reply = Text::from(reply.as_str());
        // If several requests have the same reply subject, a reply belongs to the most recent one.
        if self
            .requests
            .insert(reply.clone(), Arc::new(request))
            .is_some()
        {
            return;
        }
        self.order.push_back(reply);
        if self.order.len() > REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::tap::frame::{Direction, FrameKind};

    fn message(kind: FrameKind, subject: &str, reply: Option<&str>, number: u64) -> Frame {
        let mut frame = Frame::empty(1, Direction::ToTarget, kind);
        frame.subject = Some(subject.into());
        frame.reply = reply.map(Text::from);
        frame.number = number;
        frame
    }

    /// Returns the number of the request that a message on this subject replies to.
    fn request_number(correlation: &mut Correlation, subject: &str) -> Option<u64> {
        let mut frame = message(FrameKind::Publish, subject, None, 0);
        correlation.correlate(&mut frame);
        frame.in_reply_to.map(|request| request.number)
    }

    #[test]
    fn reply_belongs_to_the_latest_request_with_its_subject() {
        let mut correlation = Correlation::default();
        assert_eq!(request_number(&mut correlation, "in.1"), None);
        correlation.correlate(&mut message(FrameKind::Message, "svc", Some("in.1"), 7));
        correlation.correlate(&mut message(FrameKind::Message, "svc", Some("in.2"), 8));
        // Other frames are not requests.
        correlation.correlate(&mut message(FrameKind::Subscribe, "svc", Some("in.3"), 9));
        assert_eq!(request_number(&mut correlation, "in.1"), Some(7));
        assert_eq!(request_number(&mut correlation, "in.3"), None);
        correlation.correlate(&mut message(FrameKind::Message, "svc", Some("in.1"), 10));
        assert_eq!(request_number(&mut correlation, "in.1"), Some(10));
        assert_eq!(request_number(&mut correlation, "in.2"), Some(8));
    }

    #[test]
    fn forgets_the_oldest_requests() {
        let mut correlation = Correlation::default();
        for number in 0..=REQUESTS_MAX as u64 {
            let inbox = format!("in.{number}");
            correlation.correlate(&mut message(
                FrameKind::Message,
                "svc",
                Some(&inbox),
                number,
            ));
        }
        assert_eq!(request_number(&mut correlation, "in.0"), None);
        assert_eq!(request_number(&mut correlation, "in.1"), Some(1));
        assert_eq!(
            (correlation.requests.len(), correlation.order.len()),
            (REQUESTS_MAX, REQUESTS_MAX)
        );
    }
}
