//! The parser, generic over the direction.

use bytes::{Bytes, BytesMut};

use super::body::BodySizes;
use super::line::{self, LineReader};
use super::{FrameError, Limits};

/// An operation of one side of the protocol.
pub trait Operation: Sized {
    /// A message without its body.
    type Head: std::fmt::Debug;

    /// Parses one control line.
    fn parse_line(line: &Bytes, limits: &Limits) -> Result<ParsedLine<Self>, FrameError>;

    /// Builds a message from its head and body.
    fn message(head: Self::Head, headers: Option<Bytes>, payload: Bytes) -> Self;
}

/// A parsed control line.
pub enum ParsedLine<O: Operation> {
    /// A complete operation.
    Complete(O),
    /// The head of a message whose body has these sizes.
    MessageHead(O::Head, BodySizes),
}

/// Parses the operations of one side.
#[derive(Debug)]
pub struct Parser<O: Operation> {
    limits: Limits,
    reader: LineReader,
    /// A message whose line is parsed and whose body is incomplete.
    head: Option<(O::Head, BodySizes)>,
}

impl<O: Operation> Parser<O> {
    /// Creates a parser for a new connection.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            reader: LineReader::new(),
            head: None,
        }
    }

    /// Returns the next operation and removes it from `input`, or `None` if more input is needed.
    ///
    /// # Errors
    /// Fails if the input is not an operation of this side within the limits. No further operation
    /// can be parsed. A rejected line is put back at the front of `input`, so that a proxy can
    /// forward it.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<O>, FrameError> {
        if self.head.is_none() {
            let Some(line) = self.reader.next(input, self.limits.line_bytes)? else {
                return Ok(None);
            };
            match O::parse_line(&line, &self.limits)
                .inspect_err(|_| line::put_back(input, &line))?
            {
                ParsedLine::Complete(operation) => return Ok(Some(operation)),
                ParsedLine::MessageHead(head, sizes) => self.head = Some((head, sizes)),
            }
        }
        let Some((_, sizes)) = &self.head else {
            return Ok(None);
        };
        let Some((headers, payload)) = sizes.take(input)? else {
            return Ok(None);
        };
        Ok(self
            .head
            .take()
            .map(|(head, _)| O::message(head, headers, payload)))
    }

    /// Returns the length that the input must have before [`Self::next`] can return an operation.
    ///
    /// It never exceeds the limits and can be passed to [`BytesMut::reserve`].
    pub fn required_bytes(&self) -> usize {
        self.head
            .as_ref()
            .map_or(1, |(_, sizes)| sizes.wire_bytes())
    }
}
