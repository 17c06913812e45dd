//! Message headers: the block between a control line and its payload.

use bytes::{BufMut, Bytes, BytesMut};

use super::FrameError;

const VERSION: &str = "NATS/1.0";

/// The parsed header block of a message: an optional status, and the fields in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// Status of the version line, such as 503 for "no responders".
    pub status: Option<u16>,
    /// Text of the version line after the status.
    pub description: Option<String>,
    /// Names and values. Names preserve their case and may repeat.
    pub fields: Vec<(String, String)>,
}

impl Headers {
    /// Parses a header block.
    ///
    /// # Errors
    /// [`FrameError::MalformedHeaders`] when it is not UTF-8, has another version, or has a
    /// line without a colon.
    pub fn parse(block: &[u8]) -> Result<Self, FrameError> {
        let block = std::str::from_utf8(block).map_err(|_| FrameError::MalformedHeaders)?;
        let mut lines = block.split("\r\n");
        let version = lines.next().and_then(|line| line.strip_prefix(VERSION));
        let (status, description) = parse_status(version.ok_or(FrameError::MalformedHeaders)?)?;
        let mut fields = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(FrameError::MalformedHeaders)?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self {
            status,
            description,
            fields,
        })
    }

    /// Returns the first value of a field; `name` is case-insensitive.
    pub fn get(&self, name: &str) -> Option<&str> {
        let same = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .find(same)
            .map(|(_, value)| value.as_str())
    }

    /// Appends a field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Encodes the block.
    ///
    /// Names and values are not escaped: a line break in one of them corrupts the block.
    pub fn to_bytes(&self) -> Bytes {
        let mut block = BytesMut::from(VERSION);
        if let Some(status) = self.status {
            block.put_slice(format!(" {status}").as_bytes());
            if let Some(description) = &self.description {
                block.put_slice(format!(" {description}").as_bytes());
            }
        }
        block.put_slice(b"\r\n");
        for (name, value) in &self.fields {
            block.put_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        block.put_slice(b"\r\n");
        block.freeze()
    }
}

fn parse_status(after_version: &str) -> Result<(Option<u16>, Option<String>), FrameError> {
    let text = after_version.trim();
    if text.is_empty() {
        return Ok((None, None));
    }
    let (status, description) = text.split_once(' ').unwrap_or((text, ""));
    let status = status.parse().map_err(|_| FrameError::MalformedHeaders)?;
    let description = description.trim();
    Ok((
        Some(status),
        (!description.is_empty()).then(|| description.to_owned()),
    ))
}
