//! Operations that a server sends to its clients.

use bytes::{BufMut, Bytes, BytesMut};

use super::body::{BodySizes, put_body};
use super::line;
use super::parser::{Operation, ParsedLine, Parser};
use super::{FrameError, Limits, Text};

/// An operation of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerOp {
    /// `INFO`, with its JSON.
    Info(Bytes),
    /// `MSG`, or `HMSG` if it has headers.
    Message(Message),
    /// `+OK`.
    Ok,
    /// `-ERR`, its text without the quotes.
    Error(Text),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
}

/// A message from a server to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Subject of the publication.
    pub subject: Text,
    /// ID of the subscription.
    pub sid: Text,
    /// Subject for a reply.
    pub reply: Option<Text>,
    /// Header block, including its version line and the empty last line.
    pub headers: Option<Bytes>,
    /// Payload.
    pub payload: Bytes,
}

impl ServerOp {
    /// Appends the operation in wire format.
    ///
    /// Subjects, ids, JSON and error texts are not escaped: white space or a line break in one of
    /// them corrupts the frame.
    pub fn encode(&self, output: &mut BytesMut) {
        match self {
            Self::Info(json) => {
                output.put_slice(b"INFO ");
                output.put_slice(json);
            }
            Self::Message(message) => {
                return put_message(
                    output,
                    message.subject.as_bytes(),
                    message.sid.as_bytes(),
                    message.reply.as_ref().map(Text::as_bytes),
                    message.headers.as_deref(),
                    &message.payload,
                );
            }
            Self::Ok => output.put_slice(b"+OK"),
            Self::Error(text) => {
                output.put_slice(b"-ERR '");
                output.put_slice(text.as_bytes());
                output.put_u8(b'\'');
            }
            Self::Ping => output.put_slice(b"PING"),
            Self::Pong => output.put_slice(b"PONG"),
        }
        output.put_slice(b"\r\n");
    }
}

/// Appends `MSG` or `HMSG` without a [`Message`] for each subscriber.
pub(crate) fn put_message(
    output: &mut BytesMut,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    headers: Option<&[u8]>,
    payload: &[u8],
) {
    let operation: &[u8] = if headers.is_some() { b"HMSG " } else { b"MSG " };
    output.put_slice(operation);
    for argument in [Some(subject), Some(sid), reply].into_iter().flatten() {
        output.put_slice(argument);
        output.put_u8(b' ');
    }
    put_body(output, headers, payload);
}

/// Parses the operations of a server.
pub type ServerParser = Parser<ServerOp>;

impl Operation for ServerOp {
    type Head = Message;

    fn parse_line(line: &Bytes, limits: &Limits) -> Result<ParsedLine<Self>, FrameError> {
        let (operation, rest) = line::operation(line);
        let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
        if is("MSG") {
            parse_message(&rest, limits)
        } else if is("HMSG") {
            parse_header_message(&rest, limits)
        } else if is("PING") {
            Ok(ParsedLine::Complete(Self::Ping))
        } else if is("PONG") {
            Ok(ParsedLine::Complete(Self::Pong))
        } else if is("+OK") {
            Ok(ParsedLine::Complete(Self::Ok))
        } else if is("INFO") {
            Ok(ParsedLine::Complete(Self::Info(rest)))
        } else if is("-ERR") {
            let quoted = rest
                .strip_prefix(b"'")
                .and_then(|text| text.strip_suffix(b"'"));
            let text = line::text(&rest, quoted.unwrap_or(&rest))?;
            Ok(ParsedLine::Complete(Self::Error(text)))
        } else {
            Err(FrameError::UnknownOperation)
        }
    }

    fn message(head: Message, headers: Option<Bytes>, payload: Bytes) -> Self {
        Self::Message(Message {
            headers,
            payload,
            ..head
        })
    }
}

fn parse_message(rest: &Bytes, limits: &Limits) -> Result<ParsedLine<ServerOp>, FrameError> {
    let (subject, sid, reply, total) = match next_five(line::arguments(rest)) {
        [Some(subject), Some(sid), Some(total), None, None] => (subject, sid, None, total),
        [Some(subject), Some(sid), reply, Some(total), None] => (subject, sid, reply, total),
        _ => return Err(FrameError::Malformed { operation: "MSG" }),
    };
    let sizes = BodySizes::read("MSG", None, total, limits.payload_bytes)?;
    Ok(ParsedLine::MessageHead(
        head(rest, subject, sid, reply)?,
        sizes,
    ))
}

fn parse_header_message(rest: &Bytes, limits: &Limits) -> Result<ParsedLine<ServerOp>, FrameError> {
    let mut arguments = line::arguments(rest);
    let (subject, sid, reply, header, total) = match next_five(&mut arguments) {
        [Some(subject), Some(sid), Some(header), Some(total), None] => {
            (subject, sid, None, header, total)
        }
        [Some(subject), Some(sid), reply, Some(header), Some(total)]
            if arguments.next().is_none() =>
        {
            (subject, sid, reply, header, total)
        }
        _ => return Err(FrameError::Malformed { operation: "HMSG" }),
    };
    let sizes = BodySizes::read("HMSG", Some(header), total, limits.payload_bytes)?;
    Ok(ParsedLine::MessageHead(
        head(rest, subject, sid, reply)?,
        sizes,
    ))
}

fn next_five<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> [Option<&'a [u8]>; 5] {
    std::array::from_fn(|_| arguments.next())
}

fn head(
    rest: &Bytes,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
) -> Result<Message, FrameError> {
    Ok(Message {
        subject: line::text(rest, subject)?,
        sid: line::text(rest, sid)?,
        reply: reply.map(|reply| line::text(rest, reply)).transpose()?,
        ..Message::default()
    })
}
