//! Why bytes are not a frame.

/// What is wrong with the input of a parser.
///
/// After an error the position in the stream is lost: the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The line begins with no operation of this direction.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// The arguments of an operation cannot be read.
    #[error("malformed {operation}")]
    Malformed {
        /// The operation, as it is written on the wire.
        operation: &'static str,
    },
    /// A control line is longer than allowed.
    #[error("control line of more than {limit_bytes} bytes")]
    LineTooLong {
        /// The most that is allowed.
        limit_bytes: usize,
    },
    /// Headers and payload together are larger than allowed.
    #[error("payload of {size_bytes} bytes, of which {limit_bytes} are allowed")]
    PayloadTooLarge {
        /// What was announced.
        size_bytes: usize,
        /// The most that is allowed.
        limit_bytes: usize,
    },
    /// A payload is not followed by CR LF.
    #[error("payload without an end of line behind it")]
    Unterminated,
    /// A control line is not UTF-8.
    #[error("control line is not UTF-8")]
    NotUtf8,
    /// A header block cannot be read.
    #[error("malformed message headers")]
    MalformedHeaders,
}
