//! gRPC client of the suite: unary calls to a host over plaintext HTTP/2, without a gRPC library.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Time limit of connecting; a host is on the same machine or in the same data center.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Length of the prefix of a message: compression flag and message length.
const PREFIX_BYTES: usize = 5;

/// Connection to one host, made on the first call.
#[derive(Debug)]
pub struct Channel {
    authority: String,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// Response to a successful call.
#[derive(Clone, Debug)]
pub struct CallResponse {
    /// Message.
    pub message: Bytes,
    /// Initial metadata.
    pub metadata: HeaderMap,
}

/// Failure of a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The URL is not `http://host:port`.
    #[error("invalid URL {0:?}: must have the form http://host:port")]
    Url(String),
    /// The connection was refused or timed out.
    #[error("cannot connect to gRPC server at {0}")]
    Connect(String),
    /// The HTTP/2 exchange failed.
    #[error("cannot complete the call")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server returned a gRPC error status.
    #[error("the server returned gRPC status {status}: {message}")]
    Status {
        /// Status number; empty if the response has none.
        status: String,
        /// Message of the status.
        message: String,
    },
    /// The response does not consist of one uncompressed message.
    #[error("the response is not one gRPC message")]
    Frame,
}

impl Channel {
    /// Creates a channel without connecting.
    ///
    /// # Errors
    /// Fails if the URL is not `http://host:port`.
    pub fn new(url: &str) -> Result<Channel, CallError> {
        let invalid = || CallError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri
            .authority()
            .filter(|authority| authority.port().is_some())
            .ok_or_else(invalid)?;
        if uri.scheme_str() != Some("http") {
            return Err(invalid());
        }
        Ok(Channel {
            authority: authority.to_string(),
            sender: Mutex::new(None),
        })
    }

    /// Calls `package.Service/Method` and waits for the response, without a time limit.
    ///
    /// # Errors
    /// Fails if there is no response, or if it is an error or not one message.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<CallResponse, CallError> {
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).map_err(|_| CallError::Frame)?);
        body.put_slice(message);
        let request = Request::post(format!("http://{}/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .map_err(|_| CallError::Url(self.authority.clone()))?;
        let mut sender = self.connected().await?;
        let failed = |error: hyper::Error| CallError::Transport(error.into());
        let response = sender.send_request(request).await.map_err(failed)?;
        let metadata = response.headers().clone();
        let collected = Limited::new(response.into_body(), MAX_RESPONSE_BYTES)
            .collect()
            .await
            .map_err(CallError::Transport)?;
        // A response without a message (trailers-only) has its status in the headers.
        let status = collected.trailers().unwrap_or(&metadata);
        let text = |name| status.get(name).and_then(|value| value.to_str().ok());
        let number = text("grpc-status").unwrap_or_default();
        if number != "0" {
            return Err(CallError::Status {
                status: number.to_owned(),
                message: text("grpc-message").unwrap_or_default().to_owned(),
            });
        }
        let message = decode_frame(collected.to_bytes()).ok_or(CallError::Frame)?;
        Ok(CallResponse { message, metadata })
    }

    async fn connected(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let mut cached = self.sender.lock().await;
        if let Some(sender) = cached.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let unreachable = || CallError::Connect(self.authority.clone());
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority));
        let stream = stream
            .await
            .map_err(|_| unreachable())?
            .map_err(|_| unreachable())?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| CallError::Transport(error.into()))?;
        // Ends with the last sender or with the host; the next call then reconnects.
        tokio::spawn(async move { connection.await.ok() });
        *cached = Some(sender.clone());
        Ok(sender)
    }
}

/// Returns the message of a body that consists of exactly one uncompressed message.
fn decode_frame(mut body: Bytes) -> Option<Bytes> {
    let prefix = (body.len() >= PREFIX_BYTES).then(|| body.split_to(PREFIX_BYTES))?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (*compressed == 0 && usize::try_from(length).ok()? == body.len()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_exactly_one_message() {
        let framed = |bytes: &'static [u8]| decode_frame(Bytes::from_static(bytes));
        assert_eq!(framed(&[0, 0, 0, 0, 2, 7, 8]).as_deref(), Some(&[7, 8][..]));
        assert_eq!(framed(&[0, 0, 0, 0, 0]).as_deref(), Some(&[][..]));
        for bad in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 7],
        ] {
            assert_eq!(framed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn accepts_only_plaintext_urls_with_port() {
        assert!(Channel::new("http://127.0.0.1:9090").is_ok());
        for bad in ["", "127.0.0.1:9090", "https://127.0.0.1:9090", "http://a"] {
            assert!(Channel::new(bad).is_err(), "{bad}");
        }
    }
}
