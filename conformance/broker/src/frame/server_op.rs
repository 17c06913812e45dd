//! What a server sends to clients.

use bytes::{BufMut, Bytes, BytesMut};

use super::body::{BodySizes, put_body};
use super::line::{self, Lines};
use super::{FrameError, Limits, Text};

/// One operation of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerOp {
    /// `INFO`, with its JSON as it stands.
    Info(Bytes),
    /// `MSG`, or `HMSG` when it has headers.
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

/// A message on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Where it was sent.
    pub subject: Text,
    /// The subscription that it is for.
    pub sid: Text,
    /// Where an answer is wanted.
    pub reply: Option<Text>,
    /// The header block as it stands, its version line and its empty last line included.
    pub headers: Option<Bytes>,
    /// The message itself.
    pub payload: Bytes,
}

impl ServerOp {
    /// Appends the operation as it is written on the wire.
    ///
    /// Subjects, ids, JSON and error texts are written as they are: white space or line ends in them
    /// make another frame than was meant.
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

/// Appends `MSG` or `HMSG` without a [`Message`] having to be made for each subscriber.
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

/// Reads the operations of a server from its bytes.
#[derive(Debug)]
pub struct ServerParser {
    limits: Limits,
    lines: Lines,
    /// A message whose line was read and whose body was not yet there.
    head: Option<(Message, BodySizes)>,
}

impl ServerParser {
    /// A parser at the beginning of a connection.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::new(),
            head: None,
        }
    }

    /// The next operation; `None` when more input is needed first. Takes what it read off `input`.
    ///
    /// # Errors
    /// Anything that is not an operation of a server within the limits. Nothing can be read after that; a line
    /// that was refused is at the front of `input` again, for whoever passes bytes on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<ServerOp>, FrameError> {
        if self.head.is_none() {
            let Some(line) = self.lines.next(input, self.limits.line_bytes)? else {
                return Ok(None);
            };
            match self
                .read_line(&line)
                .inspect_err(|_| line::put_back(input, &line))?
            {
                Read::Whole(op) => return Ok(Some(op)),
                Read::Head(message, sizes) => self.head = Some((message, sizes)),
            }
        }
        let Some((_, sizes)) = &self.head else {
            return Ok(None);
        };
        let Some((headers, payload)) = sizes.take(input)? else {
            return Ok(None);
        };
        Ok(self.head.take().map(|(message, _)| {
            ServerOp::Message(Message {
                headers,
                payload,
                ..message
            })
        }))
    }

    /// How long the input must at least be for [`Self::next`] to give more than `None`.
    ///
    /// Never more than the limits allow, so it may be handed to [`BytesMut::reserve`].
    pub fn wanted_bytes(&self) -> usize {
        self.head
            .as_ref()
            .map_or(1, |(_, sizes)| sizes.wire_bytes())
    }

    fn read_line(&self, line: &Bytes) -> Result<Read, FrameError> {
        let (operation, rest) = line::operation(line);
        let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
        if is("MSG") {
            self.read_message(&rest)
        } else if is("HMSG") {
            self.read_header_message(&rest)
        } else if is("PING") {
            Ok(Read::Whole(ServerOp::Ping))
        } else if is("PONG") {
            Ok(Read::Whole(ServerOp::Pong))
        } else if is("+OK") {
            Ok(Read::Whole(ServerOp::Ok))
        } else if is("INFO") {
            Ok(Read::Whole(ServerOp::Info(rest)))
        } else if is("-ERR") {
            let quoted = rest
                .strip_prefix(b"'")
                .and_then(|text| text.strip_suffix(b"'"));
            let text = line::text(&rest, quoted.unwrap_or(&rest))?;
            Ok(Read::Whole(ServerOp::Error(text)))
        } else {
            Err(FrameError::UnknownOperation)
        }
    }

    fn read_message(&self, rest: &Bytes) -> Result<Read, FrameError> {
        let (subject, sid, reply, total) = match next_five(line::arguments(rest)) {
            [Some(subject), Some(sid), Some(total), None, None] => (subject, sid, None, total),
            [Some(subject), Some(sid), reply, Some(total), None] => (subject, sid, reply, total),
            _ => return Err(FrameError::Malformed { operation: "MSG" }),
        };
        let sizes = BodySizes::read("MSG", None, total, self.limits.payload_bytes)?;
        Ok(Read::Head(head(rest, subject, sid, reply)?, sizes))
    }

    fn read_header_message(&self, rest: &Bytes) -> Result<Read, FrameError> {
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
        let sizes = BodySizes::read("HMSG", Some(header), total, self.limits.payload_bytes)?;
        Ok(Read::Head(head(rest, subject, sid, reply)?, sizes))
    }
}

enum Read {
    Whole(ServerOp),
    Head(Message, BodySizes),
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
