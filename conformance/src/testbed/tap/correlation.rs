//! Which message answers which request: by the reply subject of the one being the subject of the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use berth_broker::frame::Text;
use bytes::Bytes;

use super::frame::{Frame, Request};

/// Requests remembered. Those older than this many others have long timed out.
const REQUESTS_MAX: usize = 16 * 1024;
/// What is remembered of a request's payload: the identifier stands near its beginning, and is at most
/// 256 bytes long in a request that a host obeys.
const PAYLOAD_BYTES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Correlation {
    requests: HashMap<Text, Arc<Request>>,
    /// The reply subjects in the order they were first seen.
    order: VecDeque<Text>,
}

impl Correlation {
    /// Says what a message answers, and remembers it if it asks for an answer itself.
    pub(super) fn note(&mut self, frame: &mut Frame) {
        if !frame.is_message() {
            return;
        }
        let Some(subject) = &frame.subject else {
            return;
        };
        frame.answers = self.requests.get(subject).cloned();
        let Some(reply) = &frame.reply else { return };
        let beginning = frame.payload.len().min(PAYLOAD_BYTES_MAX);
        let request = Request {
            number: frame.number,
            at: frame.at,
            subject: Text::from(subject.as_str()),
            payload: Bytes::copy_from_slice(frame.payload.get(..beginning).unwrap_or_default()),
        };
        // A copy: the frame's own texts share memory with its payload.
        let reply = Text::from(reply.as_str());
        // Of several requests with one reply subject the latest counts.
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
    use crate::testbed::tap::frame::{Direction, Kind};

    fn message(kind: Kind, subject: &str, reply: Option<&str>, number: u64) -> Frame {
        let mut frame = Frame::bare(1, Direction::ToTarget, kind);
        frame.subject = Some(subject.into());
        frame.reply = reply.map(Text::from);
        frame.number = number;
        frame
    }

    fn answers(correlation: &mut Correlation, subject: &str) -> Option<u64> {
        let mut frame = message(Kind::Publish, subject, None, 0);
        correlation.note(&mut frame);
        frame.answers.map(|request| request.number)
    }

    #[test]
    fn an_answer_is_that_of_the_latest_request_with_its_subject() {
        let mut correlation = Correlation::default();
        assert_eq!(answers(&mut correlation, "in.1"), None);
        correlation.note(&mut message(Kind::Message, "svc", Some("in.1"), 7));
        correlation.note(&mut message(Kind::Message, "svc", Some("in.2"), 8));
        // Only messages ask.
        correlation.note(&mut message(Kind::Subscribe, "svc", Some("in.3"), 9));
        assert_eq!(answers(&mut correlation, "in.1"), Some(7));
        assert_eq!(answers(&mut correlation, "in.3"), None);
        correlation.note(&mut message(Kind::Message, "svc", Some("in.1"), 10));
        assert_eq!(answers(&mut correlation, "in.1"), Some(10));
        assert_eq!(answers(&mut correlation, "in.2"), Some(8));
    }

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let mut correlation = Correlation::default();
        for number in 0..=REQUESTS_MAX as u64 {
            let inbox = format!("in.{number}");
            correlation.note(&mut message(Kind::Message, "svc", Some(&inbox), number));
        }
        assert_eq!(answers(&mut correlation, "in.0"), None);
        assert_eq!(answers(&mut correlation, "in.1"), Some(1));
        assert_eq!(
            (correlation.requests.len(), correlation.order.len()),
            (REQUESTS_MAX, REQUESTS_MAX)
        );
    }
}
