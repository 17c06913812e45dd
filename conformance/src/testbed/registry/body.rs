//! Response bodies on the wire: complete, paced, stalled, truncated or endless.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::response::Body;

/// Closes a connection without a response or during it.
#[derive(Debug, thiserror::Error)]
#[error("the registry closes the connection, as configured")]
pub(super) struct ConnectionClosed;

pub(super) type ResponseBody = BoxBody<Bytes, ConnectionClosed>;

/// Number of chunks per second in which paced bodies are sent.
const CHUNKS_PER_SECOND: u64 = 20;
/// One chunk of an endless body.
const FILLER: &[u8] = &[b' '; 1024 * 1024];
/// Pause between two chunks of an endless body: at most 1 GB per second, so that a client without a
/// limit is detected quickly, and the machine stays responsive.
const FILLER_PAUSE: Duration = Duration::from_millis(1);
/// Length after which an endless body stalls, so that a client without a limit keeps the machine
/// busy for a few seconds only.
pub const ENDLESS_BYTES: u64 = (1 << 30) + (64 << 20);

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, ConnectionClosed>> + Send + Sync>>;

impl Body {
    /// Returns the Content-Length, or `None` for a chunked body.
    pub fn content_length(&self) -> Option<u64> {
        match self {
            Body::Complete(bytes) | Body::Paced { bytes, .. } => Some(bytes.len() as u64),
            Body::Stalled { total_bytes, .. } => Some(*total_bytes),
            Body::Truncated { total_bytes, .. } => *total_bytes,
            Body::Filler { bytes } => *bytes,
        }
    }

    pub fn into_response_body(self) -> ResponseBody {
        let chunks: Chunks = match self {
            Body::Complete(bytes) => Box::pin(once(bytes)),
            Body::Paced {
                bytes,
                bytes_per_second,
            } => Box::pin(paced(bytes, bytes_per_second)),
            Body::Stalled { part, .. } => Box::pin(once(part).chain(stream::pending())),
            Body::Truncated { part, .. } => {
                Box::pin(once(part).chain(stream::once(close_connection())))
            }
            Body::Filler { bytes } => Box::pin(filler(bytes)),
        };
        BodyExt::boxed(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
    }
}

/// Fails after a pause in which the previous chunks leave the buffers, because a failing body
/// discards buffered chunks.
async fn close_connection() -> Result<Bytes, ConnectionClosed> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Err(ConnectionClosed)
}

fn once(bytes: Bytes) -> impl Stream<Item = Result<Bytes, ConnectionClosed>> + Send + Sync {
    stream::iter([Ok(bytes)])
}

fn paced(
    bytes: Bytes,
    bytes_per_second: u64,
) -> impl Stream<Item = Result<Bytes, ConnectionClosed>> + Send + Sync {
    let chunk_bytes = bytes_per_second.div_ceil(CHUNKS_PER_SECOND).max(1) as usize;
    let pause = Duration::from_secs_f64(chunk_bytes as f64 / bytes_per_second.max(1) as f64);
    stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let chunk = rest.split_to(chunk_bytes.min(rest.len()));
        Some((Ok(chunk), rest))
    })
}

fn filler(bytes: Option<u64>) -> impl Stream<Item = Result<Bytes, ConnectionClosed>> + Send + Sync {
    let total = bytes.unwrap_or(u64::MAX);
    stream::unfold(0, move |sent| async move {
        if sent >= total {
            return None;
        }
        if sent >= ENDLESS_BYTES {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(FILLER_PAUSE).await;
        let chunk_bytes = (FILLER.len() as u64).min(total - sent);
        let chunk = Bytes::from_static(FILLER).slice(..chunk_bytes as usize);
        Some((Ok(chunk), sent + chunk_bytes))
    })
}
