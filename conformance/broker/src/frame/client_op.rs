//! What clients send to a server.

use bytes::{BufMut, Bytes, BytesMut};

use super::body::{BodySizes, put_body, put_number};
use super::line;
use super::parser::{Line, Operation, Parser};
use super::{FrameError, Limits, Text};

/// One operation of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOp {
    /// `CONNECT`, with its JSON as it stands.
    Connect(Bytes),
    /// `PUB`, or `HPUB` when it has headers.
    Publish(Publish),
    /// `SUB`.
    Subscribe {
        /// The pattern.
        subject: Text,
        /// The queue group.
        queue: Option<Text>,
        /// The subscription's id, chosen by the client.
        sid: Text,
    },
    /// `UNSUB`.
    Unsubscribe {
        /// The subscription's id.
        sid: Text,
        /// End it only after this many messages since it began.
        max: Option<u64>,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
}

/// A message on its way to a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publish {
    /// Where it goes.
    pub subject: Text,
    /// Where an answer is wanted.
    pub reply: Option<Text>,
    /// The header block as it stands, its version line and its empty last line included.
    pub headers: Option<Bytes>,
    /// The message itself.
    pub payload: Bytes,
}

impl ClientOp {
    /// Appends the operation as it is written on the wire.
    ///
    /// Subjects, ids and JSON are written as they are: white space or line ends in them make another
    /// frame than was meant.
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

/// Reads the operations of a client from its bytes.
pub type ClientParser = Parser<ClientOp>;

impl Operation for ClientOp {
    type Head = Publish;

    fn read_line(line: &Bytes, limits: &Limits) -> Result<Line<Self>, FrameError> {
        let (operation, rest) = line::operation(line);
        let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
        if is("PUB") {
            read_publish(&rest, limits)
        } else if is("HPUB") {
            read_header_publish(&rest, limits)
        } else if is("SUB") {
            read_subscribe(&rest).map(Line::Whole)
        } else if is("UNSUB") {
            read_unsubscribe(&rest).map(Line::Whole)
        } else if is("PING") {
            Ok(Line::Whole(Self::Ping))
        } else if is("PONG") {
            Ok(Line::Whole(Self::Pong))
        } else if is("CONNECT") {
            Ok(Line::Whole(Self::Connect(rest)))
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

fn read_publish(rest: &Bytes, limits: &Limits) -> Result<Line<ClientOp>, FrameError> {
    let mut arguments = line::arguments(rest);
    let (subject, reply, total) = match next_four(&mut arguments) {
        (Some(subject), Some(total), None, None) => (subject, None, total),
        (Some(subject), Some(reply), Some(total), None) => (subject, Some(reply), total),
        _ => return Err(FrameError::Malformed { operation: "PUB" }),
    };
    let sizes = BodySizes::read("PUB", None, total, limits.payload_bytes)?;
    Ok(Line::Head(head(rest, subject, reply)?, sizes))
}

fn read_header_publish(rest: &Bytes, limits: &Limits) -> Result<Line<ClientOp>, FrameError> {
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
    Ok(Line::Head(head(rest, subject, reply)?, sizes))
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

fn read_subscribe(rest: &Bytes) -> Result<ClientOp, FrameError> {
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

fn read_unsubscribe(rest: &Bytes) -> Result<ClientOp, FrameError> {
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
