//! Control lines: end of line, arguments, limits.

use bytes::{BufMut, Bytes, BytesMut};

use super::{FrameError, Text};

/// Maximum sizes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a control line without its CR LF.
    pub line_bytes: usize,
    /// Maximum size of a body: headers and payload.
    pub payload_bytes: usize,
}

impl Limits {
    /// The default line limit of nats-server.
    const CLIENT_LINE_BYTES: usize = 4096;
    /// INFO lists every server of a cluster: enough for several thousand addresses.
    const SERVER_LINE_BYTES: usize = 128 * 1024;
    /// The default payload limit of nats-server.
    const PAYLOAD_BYTES: usize = 1024 * 1024;
    /// The largest `max_payload` that nats-server supports.
    const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

    /// Limits on the operations of clients, as in a nats-server with defaults: lines of 4 KiB,
    /// bodies of 1 MiB.
    pub const fn for_clients() -> Self {
        Self {
            line_bytes: Self::CLIENT_LINE_BYTES,
            payload_bytes: Self::PAYLOAD_BYTES,
        }
    }

    /// Limits on the operations of servers: long lines for INFO, and the largest body that
    /// nats-server supports.
    pub const fn for_servers() -> Self {
        Self {
            line_bytes: Self::SERVER_LINE_BYTES,
            payload_bytes: Self::PAYLOAD_BYTES_MAX,
        }
    }
}

/// Takes complete lines from the front of a buffer and scans each byte only once.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    /// Number of bytes at the front of the buffer without a line break.
    scanned: usize,
}

impl LineReader {
    /// Creates a reader at the beginning of a buffer.
    pub(super) const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// Returns the next line without its line break, or `None` until it is complete.
    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        limit_bytes: usize,
    ) -> Result<Option<Bytes>, FrameError> {
        // The longest line may be followed by CR LF.
        let search_end = input.len().min(limit_bytes.saturating_add(2));
        let unscanned = input.get(self.scanned..search_end).unwrap_or_default();
        let Some(end) = unscanned.iter().position(|byte| *byte == b'\n') else {
            if search_end < input.len() || search_end > limit_bytes + 1 {
                return Err(FrameError::LineTooLong { limit_bytes });
            }
            self.scanned = search_end;
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

/// Puts a rejected line back in front of the remaining input.
pub(super) fn put_back(input: &mut BytesMut, line: &[u8]) {
    let rest = input.split();
    input.reserve(line.len() + 2 + rest.len());
    input.put_slice(line);
    input.put_slice(b"\r\n");
    input.put_slice(&rest);
}

/// Splits a line into the name of the operation and the rest.
pub(super) fn operation(line: &Bytes) -> (&[u8], Bytes) {
    let end = line
        .iter()
        .position(|byte| is_blank(*byte))
        .unwrap_or(line.len());
    let name = line.get(..end).unwrap_or_default();
    let rest = line.get(end..).unwrap_or_default().trim_ascii();
    (name, line.slice_ref(rest))
}

/// Returns the arguments of a line.
pub(super) fn arguments(rest: &Bytes) -> impl Iterator<Item = &[u8]> {
    rest.split(|byte| is_blank(*byte))
        .filter(|argument| !argument.is_empty())
}

/// Converts an argument to text that shares the line's memory.
pub(super) fn text(line: &Bytes, argument: &[u8]) -> Result<Text, FrameError> {
    Text::try_from(line.slice_ref(argument))
}

/// Parses an unsigned decimal number.
pub(super) fn number(argument: &[u8]) -> Option<u64> {
    /// More digits than any size has, and too few to overflow the sum below.
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
