//! The bodies of answers as they go over the wire: whole, paced, stuck, cut or endless.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::response::Body;

/// Ends a connection without an answer, or in mid-answer.
#[derive(Debug, thiserror::Error)]
#[error("the registry hangs up, as it was told to")]
pub(super) struct Hangup;

pub(super) type Flow = BoxBody<Bytes, Hangup>;

/// Slow bodies go out in this many pieces a second.
const PIECES_PER_SECOND: u64 = 20;
/// One piece of an endless body.
const FILLER: &[u8] = &[b' '; 64 * 1024];
/// Between two of them: some 64 MB a second, so that a client that swallows everything is found
/// out quickly and the machine is left to work.
const FILLER_PAUSE: Duration = Duration::from_millis(1);

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Hangup>> + Send + Sync>>;

impl Body {
    /// The length to announce; none means chunks.
    pub fn announced_bytes(&self) -> Option<u64> {
        match self {
            Body::Whole(bytes) | Body::Paced { bytes, .. } => Some(bytes.len() as u64),
            Body::Stuck { whole_bytes, .. } | Body::Cut { whole_bytes, .. } => Some(*whole_bytes),
            Body::Filler { bytes } => *bytes,
        }
    }

    pub fn flow(self) -> Flow {
        let pieces: Pieces = match self {
            Body::Whole(bytes) => Box::pin(once(bytes)),
            Body::Paced {
                bytes,
                bytes_per_second,
            } => Box::pin(paced(bytes, bytes_per_second)),
            Body::Stuck { part, .. } => Box::pin(once(part).chain(stream::pending())),
            Body::Cut { part, .. } => Box::pin(once(part).chain(stream::once(hang_up()))),
            Body::Filler { bytes } => Box::pin(filler(bytes)),
        };
        BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
    }
}

/// What was sent before has to leave the buffers first: a body that fails takes them with it.
async fn hang_up() -> Result<Bytes, Hangup> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Err(Hangup)
}

fn once(bytes: Bytes) -> impl Stream<Item = Result<Bytes, Hangup>> + Send + Sync {
    stream::iter([Ok(bytes)])
}

fn paced(
    bytes: Bytes,
    bytes_per_second: u64,
) -> impl Stream<Item = Result<Bytes, Hangup>> + Send + Sync {
    let piece_bytes = bytes_per_second.div_ceil(PIECES_PER_SECOND).max(1) as usize;
    let pause = Duration::from_secs_f64(piece_bytes as f64 / bytes_per_second.max(1) as f64);
    stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(piece_bytes.min(rest.len()));
        Some((Ok(piece), rest))
    })
}

fn filler(bytes: Option<u64>) -> impl Stream<Item = Result<Bytes, Hangup>> + Send + Sync {
    stream::unfold(bytes, |left| async move {
        if left == Some(0) {
            return None;
        }
        tokio::time::sleep(FILLER_PAUSE).await;
        let piece_bytes = left.map_or(FILLER.len() as u64, |left| left.min(FILLER.len() as u64));
        let piece = Bytes::from_static(FILLER).slice(..piece_bytes as usize);
        Some((Ok(piece), left.map(|left| left - piece_bytes)))
    })
}
