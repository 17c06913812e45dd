//! The protocol of a connection, recognized by its first bytes.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of every HTTP/2 connection (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A protocol that the ingress serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Reads until the protocol is known. Returns it with the bytes that were read, or `None` if the
/// client has closed the connection.
pub async fn recognize(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut read = BytesMut::with_capacity(HTTP2_PREFACE.len());
    loop {
        if let Some(protocol) = protocol_of(&read) {
            return Ok(Some((protocol, read.freeze())));
        }
        let missing = (HTTP2_PREFACE.len() - read.len()) as u64;
        if stream.take(missing).read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    }
}

fn protocol_of(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(HTTP2_PREFACE) {
        Some(Protocol::Http2)
    } else if HTTP2_PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Protocol::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn recognizes_the_protocol_however_the_bytes_arrive() {
        let cases: [(&[u8], Option<Protocol>); 5] = [
            (b"GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"PRI / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (HTTP2_PREFACE, Some(Protocol::Http2)),
            (b"PRI * HT", None),
            (b"", None),
        ];
        for (bytes, expected) in cases {
            let mut stream = byte_by_byte(bytes);
            let recognized = recognize(&mut stream).await.unwrap();
            assert_eq!(recognized.as_ref().map(|(protocol, _)| *protocol), expected);
            if let Some((_, read)) = recognized {
                assert!(bytes.starts_with(&read));
            }
        }
    }

    /// Returns a stream that yields one byte at a time.
    fn byte_by_byte(bytes: &[u8]) -> impl AsyncRead + Unpin {
        let (stream, mut sender) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes).await;
        });
        stream
    }
}
