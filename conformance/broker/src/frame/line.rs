//! Control lines: finding one in a buffer, its arguments, and how long it may be.

use bytes::{BufMut, Bytes, BytesMut};

use super::{FrameError, Text};

/// How much one frame may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest control line, its end not counted.
    pub line_bytes: usize,
    /// The largest body, headers and payload together.
    pub payload_bytes: usize,
}

impl Limits {
    /// The line limit that every nats-server has by default, so what passes here passes there.
    const CLIENT_LINE_BYTES: usize = 4096;
    /// INFO names every server of a cluster: room for a few thousand addresses.
    const SERVER_LINE_BYTES: usize = 128 * 1024;
    /// The default of nats-server.
    const PAYLOAD_BYTES: usize = 1024 * 1024;
    /// The largest `max_payload` that a nats-server can be told to announce.
    const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

    /// What a broker takes from clients by default: lines of 4 KiB, bodies of 1 MiB.
    pub const fn of_clients() -> Self {
        Self {
            line_bytes: Self::CLIENT_LINE_BYTES,
            payload_bytes: Self::PAYLOAD_BYTES,
        }
    }

    /// What a client takes from a server: long lines for INFO, and any body a server can announce.
    pub const fn of_servers() -> Self {
        Self {
            line_bytes: Self::SERVER_LINE_BYTES,
            payload_bytes: Self::PAYLOAD_BYTES_MAX,
        }
    }
}

/// Takes complete lines off the front of a buffer, looking at each byte once.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes at the front of the buffer that are known to hold no end of line.
    scanned: usize,
}

impl Lines {
    /// Nothing looked at yet.
    pub(super) const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// The next line without its end, or `None` until there is a whole one.
    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        limit_bytes: usize,
    ) -> Result<Option<Bytes>, FrameError> {
        // CR LF may follow the longest line.
        let window = input.len().min(limit_bytes.saturating_add(2));
        let fresh = input.get(self.scanned..window).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            if window < input.len() || window > limit_bytes + 1 {
                return Err(FrameError::LineTooLong { limit_bytes });
            }
            self.scanned = window;
            return Ok(None);
        };
        let end = self.scanned + end;
        let before_end = input.get(..end).unwrap_or_default();
        let length = before_end.strip_suffix(b"\r").map_or(end, <[u8]>::len);
        if length > limit_bytes {
            return Err(FrameError::LineTooLong { limit_bytes });
        }
        self.scanned = 0;
        let mut line = input.split_to(end + 1).freeze();
        line.truncate(length);
        Ok(Some(line))
    }
}

/// Puts a line that was refused back in front of what followed it.
pub(super) fn put_back(input: &mut BytesMut, line: &[u8]) {
    let rest = input.split();
    input.reserve(line.len() + 2 + rest.len());
    input.put_slice(line);
    input.put_slice(b"\r\n");
    input.put_slice(&rest);
}

/// Splits an operation's name from the rest of its line.
pub(super) fn operation(line: &Bytes) -> (&[u8], Bytes) {
    let end = line
        .iter()
        .position(|byte| is_blank(*byte))
        .unwrap_or(line.len());
    let name = line.get(..end).unwrap_or_default();
    let rest = line.get(end..).unwrap_or_default().trim_ascii();
    (name, line.slice_ref(rest))
}

/// The arguments of a line, in order.
pub(super) fn arguments(rest: &Bytes) -> impl Iterator<Item = &[u8]> {
    rest.split(|byte| is_blank(*byte))
        .filter(|argument| !argument.is_empty())
}

/// An argument as text that shares the line's memory.
pub(super) fn text(line: &Bytes, argument: &[u8]) -> Result<Text, FrameError> {
    Text::try_from(line.slice_ref(argument))
}

/// A decimal number without sign.
pub(super) fn number(argument: &[u8]) -> Option<u64> {
    /// As many digits as a size can have; also keeps the sum below from overflowing.
    const DIGITS_MAX: usize = 18;
    if argument.is_empty() || argument.len() > DIGITS_MAX {
        return None;
    }
    argument.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
