//! The suite's own gRPC: single calls to a host over plain HTTP/2, made from frames and headers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How long connecting may take: hosts are on the same machine or in the same building.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No answer is larger.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The way to one host.
#[derive(Debug)]
pub struct Channel {
    authority: String,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What was answered to a call that the server carried out.
#[derive(Clone, Debug)]
pub struct Called {
    /// The message.
    pub message: Bytes,
    /// The metadata before it.
    pub metadata: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailed {
    /// The URL is none that the suite can call.
    #[error("{0:?} is not of the form http://host:port")]
    Url(String),
    /// Nobody answers there, or not in time.
    #[error("no gRPC server answers at {0}")]
    Connect(String),
    /// The connection broke.
    #[error("the call broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server answered with a status of gRPC's own.
    #[error("the server answered with gRPC status {status}: {message}")]
    Status {
        /// The number; empty when there is none at all.
        status: String,
        /// Its words.
        message: String,
    },
    /// The answer is no message.
    #[error("the answer is not one gRPC message")]
    Frame,
}

impl Channel {
    /// A channel that is not connected yet.
    ///
    /// # Errors
    /// The URL is not `http://host:port`.
    pub fn new(url: &str) -> Result<Channel, CallFailed> {
        let bad = || CallFailed::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri
            .authority()
            .filter(|at| at.port().is_some())
            .ok_or_else(bad)?;
        if uri.scheme_str() != Some("http") {
            return Err(bad());
        }
        Ok(Channel {
            authority: authority.to_string(),
            sender: Mutex::new(None),
        })
    }

    /// Calls `package.Service/Method` and waits for the answer, however long it takes.
    ///
    /// # Errors
    /// There is no answer, or none that is a message.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<Called, CallFailed> {
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).map_err(|_| CallFailed::Frame)?);
        body.put_slice(message);
        let request = Request::post(format!("http://{}/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .map_err(|_| CallFailed::Url(self.authority.clone()))?;
        let mut sender = self.connected().await?;
        let broken = |error: hyper::Error| CallFailed::Broken(error.into());
        let response = sender.send_request(request).await.map_err(broken)?;
        let metadata = response.headers().clone();
        let collected = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(CallFailed::Broken)?;
        // A refusal without a message has its status in the headers.
        let status = collected.trailers().unwrap_or(&metadata);
        let text = |name| status.get(name).and_then(|value| value.to_str().ok());
        let number = text("grpc-status").unwrap_or_default();
        if number != "0" {
            return Err(CallFailed::Status {
                status: number.to_owned(),
                message: text("grpc-message").unwrap_or_default().to_owned(),
            });
        }
        let message = unframed(collected.to_bytes()).ok_or(CallFailed::Frame)?;
        Ok(Called { message, metadata })
    }

    async fn connected(&self) -> Result<SendRequest<Full<Bytes>>, CallFailed> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let nobody = || CallFailed::Connect(self.authority.clone());
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority));
        let stream = stream.await.map_err(|_| nobody())?.map_err(|_| nobody())?;
        let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = shaken
            .await
            .map_err(|error| CallFailed::Broken(error.into()))?;
        // It ends with the last sender, or with the host; whoever calls next sees that.
        tokio::spawn(async move { connection.await.ok() });
        *kept = Some(sender.clone());
        Ok(sender)
    }
}

/// The one message of an answer.
fn unframed(mut body: Bytes) -> Option<Bytes> {
    let prefix = (body.len() >= PREFIX_BYTES).then(|| body.split_to(PREFIX_BYTES))?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (*compressed == 0 && usize::try_from(length).ok()? == body.len()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_is_an_answer() {
        let framed = |bytes: &'static [u8]| unframed(Bytes::from_static(bytes));
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
    fn only_plain_urls_with_a_port_are_called() {
        assert!(Channel::new("http://127.0.0.1:9090").is_ok());
        for bad in ["", "127.0.0.1:9090", "https://127.0.0.1:9090", "http://a"] {
            assert!(Channel::new(bad).is_err(), "{bad}");
        }
    }
}
