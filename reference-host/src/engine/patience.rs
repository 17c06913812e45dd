//! The time by which a handler has to begin its response, which progress extends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// Time limit of a whole handler run, the body of the response included.
pub const MAX_HANDLER_RUN: Duration = Duration::from_secs(600);

/// The time by which a handler has to begin its response. Clones share it.
#[derive(Clone, Debug)]
pub struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    /// Creates a patience that ends after `limit`.
    pub fn new(limit: Duration) -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + limit)))
    }

    /// Allows at least `limit` from now on.
    pub fn extend(&self, limit: Duration) {
        let mut end = self.lock();
        *end = (*end).max(Instant::now() + limit);
    }

    /// Waits until the time is over. Cancel safe.
    pub async fn exhausted(&self) {
        loop {
            let end = *self.lock();
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request, whose arrival extends the patience.
pub struct PatientBody<B> {
    body: B,
    patience: Patience,
    limit: Duration,
}

impl<B> PatientBody<B> {
    /// Creates the body. Each part of it allows the handler at least `limit` more.
    pub fn new(body: B, patience: Patience, limit: Duration) -> Self {
        Self {
            body,
            patience,
            limit,
        }
    }
}

impl<B: Body + Unpin> Body for PatientBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.patience.extend(self.limit);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::poll;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn parts_of_the_body_extend_the_patience() {
        let patience = Patience::new(Duration::ZERO);
        assert!(poll!(Box::pin(patience.exhausted())).is_ready());
        let body = Full::new(Bytes::from_static(b"a"));
        let mut body = PatientBody::new(body, patience.clone(), Duration::from_secs(60));
        body.frame().await.unwrap().unwrap();
        assert!(poll!(Box::pin(patience.exhausted())).is_pending());
        // A shorter extension takes nothing away.
        patience.extend(Duration::ZERO);
        assert!(poll!(Box::pin(patience.exhausted())).is_pending());
    }
}
