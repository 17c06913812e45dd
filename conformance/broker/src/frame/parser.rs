//! Takes operations off the front of what has arrived, of either side.

use bytes::{Bytes, BytesMut};

use super::body::BodySizes;
use super::line::{self, Lines};
use super::{FrameError, Limits};

/// What one side sends: how a line of it is read, and how a message is put together.
pub trait Operation: Sized {
    /// A message without its body.
    type Head: std::fmt::Debug;

    /// Reads one line.
    fn read_line(line: &Bytes, limits: &Limits) -> Result<Line<Self>, FrameError>;

    /// A message with its body.
    fn message(head: Self::Head, headers: Option<Bytes>, payload: Bytes) -> Self;
}

/// What a line is.
pub enum Line<O: Operation> {
    /// All of an operation.
    Whole(O),
    /// The head of a message with a body of these sizes.
    Head(O::Head, BodySizes),
}

/// Reads the operations of one side from its bytes.
#[derive(Debug)]
pub struct Parser<O: Operation> {
    limits: Limits,
    lines: Lines,
    /// A message whose line was read and whose body was not yet there.
    head: Option<(O::Head, BodySizes)>,
}

impl<O: Operation> Parser<O> {
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
    /// Anything that is not an operation of this side within the limits. Nothing can be read after that; a line
    /// that was refused is at the front of `input` again, for whoever passes bytes on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<O>, FrameError> {
        if self.head.is_none() {
            let Some(line) = self.lines.next(input, self.limits.line_bytes)? else {
                return Ok(None);
            };
            match O::read_line(&line, &self.limits).inspect_err(|_| line::put_back(input, &line))? {
                Line::Whole(operation) => return Ok(Some(operation)),
                Line::Head(head, sizes) => self.head = Some((head, sizes)),
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

    /// How long the input must at least be for [`Self::next`] to give more than `None`.
    ///
    /// Never more than the limits allow, so it may be handed to [`BytesMut::reserve`].
    pub fn wanted_bytes(&self) -> usize {
        self.head
            .as_ref()
            .map_or(1, |(_, sizes)| sizes.wire_bytes())
    }
}
