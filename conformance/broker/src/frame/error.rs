//! Errors of the parsers.

/// Reasons why input cannot be parsed.
///
/// After an error the parser has lost its position in the stream: the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The line does not begin with an operation of this direction.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// The arguments of an operation are invalid.
    #[error("malformed {operation}")]
    Malformed {
        /// The operation, as on the wire.
        operation: &'static str,
    },
    /// A control line exceeds the limit.
    #[error("control line exceeds {limit_bytes} bytes")]
    LineTooLong {
        /// Maximum length of a control line.
        limit_bytes: usize,
    },
    /// Headers and payload together exceed the limit.
    #[error("payload of {size_bytes} bytes exceeds the limit of {limit_bytes} bytes")]
    PayloadTooLarge {
        /// Size that the control line announces.
        size_bytes: usize,
        /// Maximum size.
        limit_bytes: usize,
    },
    /// A payload does not end with CR LF.
    #[error("payload is not followed by CR LF")]
    Unterminated,
    /// A control line is not UTF-8.
    #[error("control line is not UTF-8")]
    NotUtf8,
    /// A header block is invalid.
    #[error("malformed message headers")]
    MalformedHeaders,
}
