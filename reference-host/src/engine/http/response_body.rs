//! The body of a guest's response, which ends the guest if the client goes away.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Response, StatusCode};
use tokio::task::AbortHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The body of a response. If it is dropped before its end, nobody reads what the guest writes, and
/// the guest is aborted. After its end, the guest may go on.
struct ResponseBody {
    body: HyperOutgoingBody,
    /// Bytes that are missing, if the response has a `Content-Length`: the server does not ask for
    /// more than these.
    missing_bytes: Option<u64>,
    /// `None` after the end of the body.
    guest: Option<AbortHandle>,
}

/// Ties the guest to the body of its response to a request with `method`.
pub fn tie_guest(
    response: Response<HyperOutgoingBody>,
    method: &Method,
    guest: AbortHandle,
) -> Response<HyperOutgoingBody> {
    let status = response.status();
    let without_body = *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if without_body || response.body().is_end_stream() {
        return response;
    }
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    response.map(|body| {
        let body = ResponseBody {
            body,
            missing_bytes: length,
            guest: Some(guest),
        };
        body.boxed_unsync()
    })
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = <HyperOutgoingBody as hyper::body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.missing_bytes = self.missing_bytes.map(|all| all.saturating_sub(length));
                if self.missing_bytes == Some(0) || self.body.is_end_stream() {
                    self.guest = None;
                }
            }
            Poll::Ready(None | Some(Err(_))) => self.guest = None,
            Poll::Pending => {}
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

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(guest) = &self.guest {
            guest.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    /// Returns a response with the body `ab` in two parts, and its guest, which never ends.
    fn response(
        method: &Method,
        length: Option<&str>,
    ) -> (Response<HyperOutgoingBody>, tokio::task::JoinHandle<()>) {
        let guest = tokio::spawn(std::future::pending());
        let parts = ["a", "b"].map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))));
        let body = StreamBody::new(stream::iter(parts)).boxed_unsync();
        let mut response = Response::new(body);
        if let Some(length) = length {
            let length = length.parse().unwrap();
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        (tie_guest(response, method, guest.abort_handle()), guest)
    }

    #[tokio::test]
    async fn aborts_the_guest_of_a_body_that_is_dropped_before_its_end() {
        for length in [None, Some("2")] {
            let (response, guest) = response(&Method::GET, length);
            let mut body = response.into_body();
            body.frame().await.unwrap().unwrap();
            drop(body);
            assert!(guest.await.unwrap_err().is_cancelled());
        }
    }

    #[tokio::test]
    async fn lets_the_guest_go_on_after_the_end_of_its_body() {
        let (complete, one) = response(&Method::GET, None);
        complete.into_body().collect().await.unwrap();
        let (with_length, two) = response(&Method::GET, Some("2"));
        let mut body = with_length.into_body();
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        let (head, three) = response(&Method::HEAD, None);
        drop(head);
        tokio::task::yield_now().await;
        for guest in [one, two, three] {
            assert!(!guest.is_finished());
            guest.abort();
        }
    }
}
