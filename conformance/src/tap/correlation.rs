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
        // Of a message that comes back (the target has subscribed to what it publishes) the first counts.
        if self.requests.contains_key(&reply) {
            return;
        }
        self.requests.insert(reply.clone(), Arc::new(request));
        self.order.push_back(reply);
        if self.order.len() > REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }
}
