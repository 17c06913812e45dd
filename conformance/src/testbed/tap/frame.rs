//! A recorded frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_broker::frame::{ClientOp, Headers, ServerOp, Text};
use bytes::{BufMut, Bytes, BytesMut};

/// Direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the target to the bus.
    FromTarget,
    /// From the bus to the target.
    ToTarget,
}

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// The target opened a connection. Not a frame; recorded to relate frames to connections.
    Opened,
    /// A connection ended. Not a frame; the payload is the reason.
    Closed,
    /// INFO; the payload is its JSON.
    Info,
    /// CONNECT; the payload is its JSON without credentials.
    Connect,
    /// PUB or HPUB from the target.
    Publish,
    /// MSG or HMSG to the target.
    Message,
    /// SUB.
    Subscribe,
    /// UNSUB.
    Unsubscribe,
    /// PING, in either direction.
    Ping,
    /// PONG, in either direction.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`; the payload is its text.
    Error,
    /// Bytes that are not a frame; the payload is the reason. Further bytes in this direction of
    /// the connection are forwarded unparsed.
    Unreadable,
}

/// Treatment of a frame by the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// Forwarded.
    Passed,
    /// Not forwarded.
    Dropped,
    /// Forwarded after this delay.
    Delayed(Duration),
    /// Forwarded twice.
    Duplicated,
    /// Held until its rule is released.
    Held,
    /// Forwarded with another payload; the recorded payload is the original.
    Rewritten,
    /// Not forwarded; the connection was closed instead.
    DisconnectBefore,
    /// Forwarded; then the connection was closed.
    DisconnectAfter,
    /// Dropped because too many frames were delayed or held.
    Overflowed,
}

/// One frame, or the opening or closing of a connection.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Position in the recording, from 0, without gaps.
    pub number: u64,
    /// Time at which the tap parsed the frame.
    pub at: Instant,
    /// Number of the target's connection, from 1.
    pub connection: u64,
    /// Direction.
    pub direction: Direction,
    /// Kind.
    pub kind: FrameKind,
    /// Subject, if this kind has one.
    pub subject: Option<Text>,
    /// Reply subject of a message.
    pub reply: Option<Text>,
    /// Queue group of a subscription.
    pub queue: Option<Text>,
    /// ID of the subscription, if this kind has one.
    pub sid: Option<Text>,
    /// Raw header block.
    pub headers: Option<Bytes>,
    /// Payload, or the text that [`FrameKind`] describes. Empty if the recording has dropped it.
    pub payload: Bytes,
    /// Size of the original payload.
    pub payload_bytes: usize,
    /// The request whose reply subject is the subject of this message, if the tap has seen one.
    pub in_reply_to: Option<Arc<CorrelatedRequest>>,
    /// Treatment by the tap.
    pub disposition: Disposition,
}

/// The part of a request that is remembered for its replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelatedRequest {
    /// Position in the recording.
    pub number: u64,
    /// Time at which the tap parsed the request.
    pub at: Instant,
    /// Subject.
    pub subject: Text,
    /// The beginning of the payload, which contains the id.
    pub payload: Bytes,
}

impl Frame {
    /// Returns whether the frame is a message, in either direction.
    pub fn is_message(&self) -> bool {
        matches!(self.kind, FrameKind::Publish | FrameKind::Message)
    }

    /// Returns whether the subject matches a pattern with `*` and `>`.
    pub fn is_on(&self, pattern: &str) -> bool {
        self.subject
            .as_ref()
            .is_some_and(|subject| berth_broker::subject_matches(pattern, subject))
    }

    /// Returns whether the frame is a reply to a request on a subject that matches a pattern.
    pub fn is_reply_to(&self, pattern: &str) -> bool {
        let matches =
            |request: &CorrelatedRequest| berth_broker::subject_matches(pattern, &request.subject);
        self.in_reply_to.as_deref().is_some_and(matches)
    }

    /// Returns whether the payload contains `part`.
    pub fn contains(&self, part: &[u8]) -> bool {
        contains(&self.payload, part)
    }

    /// Returns the headers, if they are present and valid.
    pub fn parsed_headers(&self) -> Option<Headers> {
        Headers::parse(self.headers.as_ref()?).ok()
    }

    /// Creates a frame without content; the recording assigns the number.
    pub(super) fn empty(connection: u64, direction: Direction, kind: FrameKind) -> Self {
        Self {
            number: 0,
            at: Instant::now(),
            connection,
            direction,
            kind,
            subject: None,
            reply: None,
            queue: None,
            sid: None,
            headers: None,
            payload: Bytes::new(),
            payload_bytes: 0,
            in_reply_to: None,
            disposition: Disposition::Passed,
        }
    }

    /// Creates a frame whose payload is a text of the tap.
    pub(super) fn with_text(
        connection: u64,
        direction: Direction,
        kind: FrameKind,
        text: &str,
    ) -> Self {
        let mut frame = Self::empty(connection, direction, kind);
        frame.set_payload(Bytes::copy_from_slice(text.as_bytes()));
        frame
    }

    /// Creates the frame of an operation from the target.
    pub(super) fn of_client(connection: u64, op: &ClientOp) -> Self {
        let frame = |kind| Self::empty(connection, Direction::FromTarget, kind);
        match op {
            ClientOp::Connect(json) => {
                let mut frame = frame(FrameKind::Connect);
                frame.set_payload(without_credentials(json));
                frame
            }
            ClientOp::Publish(publish) => {
                let mut frame = frame(FrameKind::Publish);
                frame.set_message(&Parts {
                    subject: &publish.subject,
                    reply: publish.reply.as_ref(),
                    sid: None,
                    headers: publish.headers.as_ref(),
                    payload: &publish.payload,
                });
                frame
            }
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            } => Self {
                subject: Some(copy(subject)),
                queue: queue.as_ref().map(copy),
                sid: Some(copy(sid)),
                ..frame(FrameKind::Subscribe)
            },
            ClientOp::Unsubscribe { sid, .. } => Self {
                sid: Some(copy(sid)),
                ..frame(FrameKind::Unsubscribe)
            },
            ClientOp::Ping => frame(FrameKind::Ping),
            ClientOp::Pong => frame(FrameKind::Pong),
            _ => frame(FrameKind::Unreadable),
        }
    }

    /// Creates the frame of an operation from the bus.
    pub(super) fn of_server(connection: u64, op: &ServerOp) -> Self {
        let frame = |kind| Self::empty(connection, Direction::ToTarget, kind);
        match op {
            ServerOp::Info(json) => {
                let mut frame = frame(FrameKind::Info);
                frame.set_payload(Bytes::copy_from_slice(json));
                frame
            }
            ServerOp::Message(message) => {
                let mut frame = frame(FrameKind::Message);
                frame.set_message(&Parts {
                    subject: &message.subject,
                    reply: message.reply.as_ref(),
                    sid: Some(&message.sid),
                    headers: message.headers.as_ref(),
                    payload: &message.payload,
                });
                frame
            }
            ServerOp::Ok => frame(FrameKind::Ok),
            ServerOp::Error(text) => Self::with_text(
                connection,
                Direction::ToTarget,
                FrameKind::Error,
                text.as_str(),
            ),
            ServerOp::Ping => frame(FrameKind::Ping),
            ServerOp::Pong => frame(FrameKind::Pong),
            _ => frame(FrameKind::Unreadable),
        }
    }

    /// Returns a copy without payload and headers that shares no memory with the original.
    pub(super) fn without_payload(&self) -> Self {
        Self {
            subject: self.subject.as_ref().map(copy),
            reply: self.reply.as_ref().map(copy),
            sid: self.sid.as_ref().map(copy),
            headers: None,
            payload: Bytes::new(),
            ..self.clone()
        }
    }

    fn set_payload(&mut self, payload: Bytes) {
        self.payload_bytes = payload.len();
        self.payload = payload;
    }

    /// Copies a message into one buffer: parsed data shares its memory with everything that was
    /// read along with it, and would keep much more memory alive than the recording accounts for.
    fn set_message(&mut self, parts: &Parts<'_>) {
        let headers = parts.headers.map_or(&[][..], |headers| headers);
        let texts = [Some(parts.subject), parts.reply, parts.sid];
        let size = texts.iter().flatten().map(|text| text.len()).sum::<usize>()
            + headers.len()
            + parts.payload.len();
        let mut copy = BytesMut::with_capacity(size);
        for text in texts.iter().flatten() {
            copy.put_slice(text.as_bytes());
        }
        copy.put_slice(headers);
        copy.put_slice(parts.payload);
        let mut copy = copy.freeze();
        let mut text = |text: Option<&Text>| {
            // It was UTF-8 before the copy.
            text.and_then(|text| Text::try_from(copy.split_to(text.len())).ok())
        };
        self.subject = text(Some(parts.subject));
        self.reply = text(parts.reply);
        self.sid = text(parts.sid);
        self.headers = parts.headers.map(|headers| copy.split_to(headers.len()));
        self.set_payload(copy);
    }
}

struct Parts<'a> {
    subject: &'a Text,
    reply: Option<&'a Text>,
    sid: Option<&'a Text>,
    headers: Option<&'a Bytes>,
    payload: &'a Bytes,
}

/// Returns whether `whole` contains `part`. Every sequence contains the empty one.
pub(super) fn contains(whole: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else {
        return true;
    };
    let mut rest = whole;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(part) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

fn copy(text: &Text) -> Text {
    Text::from(text.as_str())
}

/// Returns the JSON of a CONNECT without credentials.
fn without_credentials(json: &[u8]) -> Bytes {
    const SECRET: [&str; 6] = ["user", "pass", "auth_token", "jwt", "sig", "nkey"];
    let Ok(mut connect) = serde_json::from_slice::<serde_json::Value>(json) else {
        return Bytes::from_static(b"CONNECT without valid JSON");
    };
    let Some(fields) = connect.as_object_mut() else {
        return Bytes::from_static(b"CONNECT without a JSON object");
    };
    for name in SECRET {
        if let Some(value) = fields.get_mut(name).filter(|value| !value.is_null()) {
            *value = "(not recorded)".into();
        }
    }
    connect.to_string().into()
}
