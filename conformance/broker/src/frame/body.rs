//! Bodies: the headers and the payload after a control line.

use bytes::{BufMut, Bytes, BytesMut};

use super::FrameError;
use super::line::number;

const CRLF: &[u8] = b"\r\n";

/// The sizes in a control line.
#[derive(Debug, Clone, Copy)]
pub struct BodySizes {
    /// Size of the headers; `None` for an operation without headers.
    header_bytes: Option<usize>,
    total_bytes: usize,
}

impl BodySizes {
    /// Parses the size arguments of `operation` and checks them against the limit.
    pub(super) fn read(
        operation: &'static str,
        header: Option<&[u8]>,
        total: &[u8],
        limit_bytes: usize,
    ) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed { operation };
        let size = |argument| number(argument).and_then(|size| usize::try_from(size).ok());
        let total_bytes = size(total).ok_or(malformed.clone())?;
        if total_bytes > limit_bytes {
            return Err(FrameError::PayloadTooLarge {
                size_bytes: total_bytes,
                limit_bytes,
            });
        }
        let header_bytes = match header.map(size) {
            None => None,
            Some(Some(size)) if size <= total_bytes => Some(size),
            Some(_) => return Err(malformed),
        };
        Ok(Self {
            header_bytes,
            total_bytes,
        })
    }

    /// Returns the size of the body on the wire, including its CR LF.
    pub(super) fn wire_bytes(&self) -> usize {
        self.total_bytes + CRLF.len()
    }

    /// Takes the headers and the payload. Returns `None` until the body is complete.
    pub(super) fn take(
        self,
        input: &mut BytesMut,
    ) -> Result<Option<(Option<Bytes>, Bytes)>, FrameError> {
        if input.len() < self.wire_bytes() {
            return Ok(None);
        }
        let mut body = input.split_to(self.wire_bytes()).freeze();
        if body.split_off(self.total_bytes) != CRLF {
            return Err(FrameError::Unterminated);
        }
        let headers = self.header_bytes.map(|size| body.split_to(size));
        Ok(Some((headers, body)))
    }
}

/// Writes `[header size] total size CR LF headers payload CR LF`.
pub(super) fn put_body(output: &mut BytesMut, headers: Option<&[u8]>, payload: &[u8]) {
    let header_bytes = headers.map_or(0, <[u8]>::len);
    if headers.is_some() {
        put_number(output, header_bytes as u64);
        output.put_u8(b' ');
    }
    put_number(output, (header_bytes + payload.len()) as u64);
    output.reserve(header_bytes + payload.len() + 2 * CRLF.len());
    output.put_slice(CRLF);
    output.put_slice(headers.unwrap_or_default());
    output.put_slice(payload);
    output.put_slice(CRLF);
}

/// Writes a decimal number.
pub(super) fn put_number(output: &mut BytesMut, mut number: u64) {
    /// Decimal digits of the largest u64.
    const DIGITS_MAX: usize = 20;
    let mut digits = [0_u8; DIGITS_MAX];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    output.put_slice(digits.get(DIGITS_MAX - length..).unwrap_or_default());
}
