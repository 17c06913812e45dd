//! One frame as the tap saw it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_broker::frame::{ClientOp, Headers, ServerOp, Text};
use bytes::{BufMut, Bytes, BytesMut};

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the target to the bus.
    FromTarget,
    /// From the bus to the target.
    ToTarget,
}

/// What kind of frame it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The target opened a connection. Not a frame, but what frames are seen against.
    Opened,
    /// A connection ended. Not a frame either; the payload says how.
    Closed,
    /// INFO; the payload is its JSON.
    Info,
    /// CONNECT; the payload is its JSON without credentials.
    Connect,
    /// PUB or HPUB of the target.
    Publish,
    /// MSG or HMSG to the target.
    Message,
    /// SUB.
    Subscribe,
    /// UNSUB.
    Unsubscribe,
    /// PING, of either side.
    Ping,
    /// PONG, of either side.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`; the payload is its text.
    Error,
    /// Bytes that are no frame; the payload says why. What follows on that connection and way is passed on
    /// unread.
    Unreadable,
}

/// What the tap did with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It was passed on.
    Passed,
    /// It was not passed on.
    Dropped,
    /// It is passed on that much later.
    Delayed(Duration),
    /// It was passed on twice.
    Duplicated,
    /// It was kept until its rule is released.
    Held,
    /// It was passed on with another payload; the one recorded is the original.
    Rewritten,
    /// The connection was cut instead of passing it on.
    CutBefore,
    /// It was passed on and then the connection was cut.
    CutAfter,
    /// Too many frames were being delayed or held already, so that it was dropped.
    Overflowed,
}

/// One frame, or the opening or closing of a connection.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Position in the record, from 0, without gaps.
    pub number: u64,
    /// When the tap had read it.
    pub at: Instant,
    /// Which connection of the target, from 1.
    pub connection: u64,
    /// Which way it went.
    pub way: Direction,
    /// What it was.
    pub kind: Kind,
    /// The subject, of those that have one.
    pub subject: Option<Text>,
    /// The reply subject, of messages that want an answer.
    pub reply: Option<Text>,
    /// The queue group of a subscription.
    pub queue: Option<Text>,
    /// The subscription's id, of those that have one.
    pub sid: Option<Text>,
    /// The header block as it stood.
    pub headers: Option<Bytes>,
    /// The payload, or what [`Kind`] says is in its place. Empty when the record ran out of room.
    pub payload: Bytes,
    /// How long the payload was.
    pub payload_bytes: usize,
    /// The request that this message answers, when the tap saw one with this subject as reply subject.
    pub answers: Option<Arc<Request>>,
    /// What the tap did with it.
    pub fate: Fate,
}

/// A request, as far as it is remembered for the sake of its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number in the record.
    pub number: u64,
    /// When the tap had read it.
    pub at: Instant,
    /// Its subject.
    pub subject: Text,
    /// The beginning of its payload: enough to hold an id.
    pub payload: Bytes,
}

impl Frame {
    /// Whether it is a message, of either way.
    pub fn is_message(&self) -> bool {
        matches!(self.kind, Kind::Publish | Kind::Message)
    }

    /// Whether its subject matches a pattern with `*` and `>`.
    pub fn is_on(&self, pattern: &str) -> bool {
        self.subject
            .as_ref()
            .is_some_and(|own| berth_broker::subject_matches(pattern, own))
    }

    /// Whether it answers a request on a subject that matches a pattern.
    pub fn is_reply_to(&self, pattern: &str) -> bool {
        let matches = |request: &Request| berth_broker::subject_matches(pattern, &request.subject);
        self.answers.as_deref().is_some_and(matches)
    }

    /// Whether a piece of its payload is `part`.
    pub fn contains(&self, part: &[u8]) -> bool {
        contains(&self.payload, part)
    }

    /// The headers, when there are any that can be read.
    pub fn parsed_headers(&self) -> Option<Headers> {
        Headers::parse(self.headers.as_ref()?).ok()
    }

    /// A frame without content; the recorder gives it its number.
    pub(super) fn bare(connection: u64, way: Direction, kind: Kind) -> Self {
        Self {
            number: 0,
            at: Instant::now(),
            connection,
            way,
            kind,
            subject: None,
            reply: None,
            queue: None,
            sid: None,
            headers: None,
            payload: Bytes::new(),
            payload_bytes: 0,
            answers: None,
            fate: Fate::Passed,
        }
    }

    /// A frame with a text of the tap's own in place of a payload.
    pub(super) fn note(connection: u64, way: Direction, kind: Kind, text: &str) -> Self {
        let mut frame = Self::bare(connection, way, kind);
        frame.set_payload(Bytes::copy_from_slice(text.as_bytes()));
        frame
    }

    /// What a target said.
    pub(super) fn of_client(connection: u64, op: &ClientOp) -> Self {
        let frame = |kind| Self::bare(connection, Direction::FromTarget, kind);
        match op {
            ClientOp::Connect(json) => {
                let mut frame = frame(Kind::Connect);
                frame.set_payload(without_credentials(json));
                frame
            }
            ClientOp::Publish(publish) => {
                let mut frame = frame(Kind::Publish);
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
                ..frame(Kind::Subscribe)
            },
            ClientOp::Unsubscribe { sid, .. } => Self {
                sid: Some(copy(sid)),
                ..frame(Kind::Unsubscribe)
            },
            ClientOp::Ping => frame(Kind::Ping),
            ClientOp::Pong => frame(Kind::Pong),
            _ => frame(Kind::Unreadable),
        }
    }

    /// What a bus said.
    pub(super) fn of_server(connection: u64, op: &ServerOp) -> Self {
        let frame = |kind| Self::bare(connection, Direction::ToTarget, kind);
        match op {
            ServerOp::Info(json) => {
                let mut frame = frame(Kind::Info);
                frame.set_payload(Bytes::copy_from_slice(json));
                frame
            }
            ServerOp::Message(message) => {
                let mut frame = frame(Kind::Message);
                frame.set_message(&Parts {
                    subject: &message.subject,
                    reply: message.reply.as_ref(),
                    sid: Some(&message.sid),
                    headers: message.headers.as_ref(),
                    payload: &message.payload,
                });
                frame
            }
            ServerOp::Ok => frame(Kind::Ok),
            ServerOp::Error(text) => {
                Self::note(connection, Direction::ToTarget, Kind::Error, text.as_str())
            }
            ServerOp::Ping => frame(Kind::Ping),
            ServerOp::Pong => frame(Kind::Pong),
            _ => frame(Kind::Unreadable),
        }
    }

    /// The frame without payload and headers, and without a share in their memory.
    pub(super) fn emptied(&self) -> Self {
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

    /// Copies a message in one piece: what was read shares its memory with everything read with it, and
    /// a record that kept that alive would hold much more than it says.
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

/// Whether `part` occurs in `whole`. The empty part occurs everywhere.
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

/// The JSON of a CONNECT with what must not be recorded taken out.
fn without_credentials(json: &[u8]) -> Bytes {
    const SECRET: [&str; 6] = ["user", "pass", "auth_token", "jwt", "sig", "nkey"];
    let Ok(mut connect) = serde_json::from_slice::<serde_json::Value>(json) else {
        return Bytes::from_static(b"unreadable CONNECT");
    };
    let Some(fields) = connect.as_object_mut() else {
        return Bytes::from_static(b"CONNECT without an object");
    };
    for name in SECRET {
        if let Some(value) = fields.get_mut(name).filter(|value| !value.is_null()) {
            *value = "(not recorded)".into();
        }
    }
    connect.to_string().into()
}
