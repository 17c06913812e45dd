//! Operations that a client sends to its server.

use bytes::{BufMut, Bytes, BytesMut};

use super::body::{BodySizes, put_body, put_number};
use super::line;
use super::parser::{Operation, ParsedLine, Parser};
use super::{FrameError, Limits, Text};

/// An operation of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOp {
    /// `CONNECT`, with its JSON.
    Connect(Bytes),
    /// `PUB`, or `HPUB` if it has headers.
    Publish(Publish),
    /// `SUB`.
    Subscribe {
        /// Subject pattern.
        subject: Text,
        /// Queue group.
        queue: Option<Text>,
        /// ID of the subscription, chosen by the client.
        sid: Text,
    },
    /// `UNSUB`.
    Unsubscribe {
        /// ID of the subscription.
        sid: Text,
        /// Total number of messages after which the subscription ends; `None` ends it immediately.
        max: Option<u64>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publish {
    /// Subject.
    pub subject: Text,
    /// Subject for a reply.
    pub reply: Option<Text>,
    /// Header block, including its version line and the empty last line.
    pub headers: Option<Bytes>,
    /// Payload.
    pub payload: Bytes,
}

impl ClientOp {
    /// Appends the operation in wire format.
    ///
    /// Subjects, ids and JSON are not escaped: white space or a line break in one of them corrupts
    /// the frame.
    pub fn encode(&self, output: &mut BytesMut) {
        match self {
            Self::Connect(json) => {
                output.put_slice(b"CONNECT ");
                output.put_slice(json);
            }
            Self::Publish(publish) => return publish.encode(output),
            Self::Subscribe {
                subject,
                queue,
                sid,
            } => {
                output.put_slice(b"SUB ");
                output.put_slice(subject.as_bytes());
                for argument in queue.iter().chain([sid]) {
                    output.put_u8(b' ');
                    output.put_slice(argument.as_bytes());
                }
            }
            Self::Unsubscribe { sid, max } => {
                output.put_slice(b"UNSUB ");
                output.put_slice(sid.as_bytes());
                if let Some(max) = max {
                    output.put_u8(b' ');
                    put_number(output, *max);
                }
            }
            Self::Ping => output.put_slice(b"PING"),
            Self::Pong => output.put_slice(b"PONG"),
        }
        output.put_slice(b"\r\n");
    }
}

impl Publish {
    fn encode(&self, output: &mut BytesMut) {
        let operation: &[u8] = if self.headers.is_some() {
            b"HPUB "
        } else {
            b"PUB "
        };
        output.put_slice(operation);
        output.put_slice(self.subject.as_bytes());
        output.put_u8(b' ');
        if let Some(reply) = &self.reply {
            output.put_slice(reply.as_bytes());
            output.put_u8(b' ');
        }
        put_body(output, self.headers.as_deref(), &self.payload);
    }
}

/// Parses the operations of a client.
pub type ClientParser = Parser<ClientOp>;

impl Operation for ClientOp {
    type Head = Publish;

    fn parse_line(line: &Bytes, limits: &Limits) -> Result<ParsedLine<Self>, FrameError> {
        let (operation, rest) = line::operation(line);
        let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
        if is("PUB") {
            parse_publish(&rest, limits)
        } else if is("HPUB") {
            parse_header_publish(&rest, limits)
        } else if is("SUB") {
            parse_subscribe(&rest).map(ParsedLine::Complete)
        } else if is("UNSUB") {
            parse_unsubscribe(&rest).map(ParsedLine::Complete)
        } else if is("PING") {
            Ok(ParsedLine::Complete(Self::Ping))
        } else if is("PONG") {
            Ok(ParsedLine::Complete(Self::Pong))
        } else if is("CONNECT") {
            Ok(ParsedLine::Complete(Self::Connect(rest)))
        } else {
            Err(FrameError::UnknownOperation)
        }
    }

    fn message(head: Publish, headers: Option<Bytes>, payload: Bytes) -> Self {
        Self::Publish(Publish {
            headers,
            payload,
            ..head
        })
    }
}

fn parse_publish(rest: &Bytes, limits: &Limits) -> Result<ParsedLine<ClientOp>, FrameError> {
    let mut arguments = line::arguments(rest);
    let (subject, reply, total) = match next_four(&mut arguments) {
        (Some(subject), Some(total), None, None) => (subject, None, total),
        (Some(subject), Some(reply), Some(total), None) => (subject, Some(reply), total),
        _ => return Err(FrameError::Malformed { operation: "PUB" }),
    };
    let sizes = BodySizes::read("PUB", None, total, limits.payload_bytes)?;
    Ok(ParsedLine::MessageHead(head(rest, subject, reply)?, sizes))
}

fn parse_header_publish(rest: &Bytes, limits: &Limits) -> Result<ParsedLine<ClientOp>, FrameError> {
    let malformed = FrameError::Malformed { operation: "HPUB" };
    let mut arguments = line::arguments(rest);
    let (subject, reply, header, total) = match next_four(&mut arguments) {
        (Some(subject), Some(header), Some(total), None) => (subject, None, header, total),
        (Some(subject), Some(reply), Some(header), Some(total)) => {
            (subject, Some(reply), header, total)
        }
        _ => return Err(malformed),
    };
    if arguments.next().is_some() {
        return Err(malformed);
    }
    let sizes = BodySizes::read("HPUB", Some(header), total, limits.payload_bytes)?;
    Ok(ParsedLine::MessageHead(head(rest, subject, reply)?, sizes))
}

type Argument<'a> = Option<&'a [u8]>;

fn next_four<'a>(
    arguments: &mut impl Iterator<Item = &'a [u8]>,
) -> (Argument<'a>, Argument<'a>, Argument<'a>, Argument<'a>) {
    (
        arguments.next(),
        arguments.next(),
        arguments.next(),
        arguments.next(),
    )
}

fn head(rest: &Bytes, subject: &[u8], reply: Option<&[u8]>) -> Result<Publish, FrameError> {
    Ok(Publish {
        subject: line::text(rest, subject)?,
        reply: reply.map(|reply| line::text(rest, reply)).transpose()?,
        ..Publish::default()
    })
}

fn parse_subscribe(rest: &Bytes) -> Result<ClientOp, FrameError> {
    let (subject, queue, sid) = match next_four(&mut line::arguments(rest)) {
        (Some(subject), Some(sid), None, None) => (subject, None, sid),
        (Some(subject), Some(queue), Some(sid), None) => (subject, Some(queue), sid),
        _ => return Err(FrameError::Malformed { operation: "SUB" }),
    };
    Ok(ClientOp::Subscribe {
        subject: line::text(rest, subject)?,
        queue: queue.map(|queue| line::text(rest, queue)).transpose()?,
        sid: line::text(rest, sid)?,
    })
}

fn parse_unsubscribe(rest: &Bytes) -> Result<ClientOp, FrameError> {
    let malformed = FrameError::Malformed { operation: "UNSUB" };
    let (sid, max) = match next_four(&mut line::arguments(rest)) {
        (Some(sid), None, None, None) => (sid, None),
        (Some(sid), Some(max), None, None) => (sid, Some(line::number(max).ok_or(malformed)?)),
        _ => return Err(malformed),
    };
    Ok(ClientOp::Unsubscribe {
        sid: line::text(rest, sid)?,
        max,
    })
}
