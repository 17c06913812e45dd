//! HTTP requests to the ingress of the host.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::CheckContext;
use crate::check::outcome::Blocked;
use crate::wire::response::Headers;

/// Limit on a response body. The suite's guests return a few bytes; an endless body must not fill
/// memory.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Default timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Response of the host's ingress, or the reason why there is none.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status code; 0 without a response, see `error`.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Bytes,
    /// Time from connecting to the last byte.
    pub elapsed: Duration,
    /// Reason why there is no response.
    pub error: Option<String>,
}

impl HttpResponse {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Display for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.error {
            Some(error) => write!(f, "no HTTP response: {error}"),
            None => write!(
                f,
                "HTTP {} {:?}",
                self.status,
                crate::wire::response::shortened(&self.text(), 120)
            ),
        }
    }
}

impl CheckContext {
    /// Returns an HTTP host name that only this check uses, for `wasi:http` of a workload.
    pub fn http_host_name(&self, label: &str) -> String {
        let name: String = self
            .unique_name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!(
            "{label}.{}.berth.test",
            name.to_lowercase().trim_matches('-')
        )
    }

    /// Sends `GET path` with the header `Host: host`, on a new connection.
    ///
    /// # Errors
    /// Fails if the host has no known ingress. After a refused connection, `error` of the result is
    /// set.
    pub async fn http_get(&self, host: &str, path: &str) -> Result<HttpResponse, Blocked> {
        let request = Request::get(path)
            .header("Host", host)
            .body(Bytes::new())
            .map_err(|cause| Blocked::harness("cannot build the HTTP request", cause))?;
        self.http_send(request, REQUEST_TIMEOUT).await
    }

    /// Sends any request on a new connection, without additional headers.
    ///
    /// # Errors
    /// Fails if the host has no known ingress.
    pub async fn http_send(
        &self,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<HttpResponse, Blocked> {
        let authority = self.http_authority()?.to_owned();
        let started_at = Instant::now();
        let exchange = tokio::time::timeout(within, exchange(&authority, request)).await;
        let error = match exchange {
            Ok(Ok((status, headers, body))) => {
                return Ok(HttpResponse {
                    status,
                    headers,
                    body,
                    elapsed: started_at.elapsed(),
                    error: None,
                });
            }
            Ok(Err(error)) => error,
            Err(_) => format!("no response within {}", crate::check::wait::seconds(within)),
        };
        Ok(HttpResponse {
            status: 0,
            headers: Headers::none(),
            body: Bytes::new(),
            elapsed: started_at.elapsed(),
            error: Some(error),
        })
    }

    /// Returns `ADDRESS:PORT` of the host's ingress.
    ///
    /// # Errors
    /// Fails if the host has no known ingress; a check with `needs: [Ingress]` does not run then.
    pub fn http_authority(&self) -> Result<&str, Blocked> {
        self.host
            .http_addr
            .as_deref()
            .ok_or_else(|| Blocked::Missing("the address of the host's HTTP ingress".to_owned()))
    }
}

async fn exchange(
    authority: &str,
    request: Request<Bytes>,
) -> Result<(u16, Headers, Bytes), String> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|cause| cause.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| cause.to_string())?;
    // Aborted on drop, so that a request that timed out leaves no connection open.
    let _driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender
        .send_request(request.map(Full::new))
        .await
        .map_err(|cause| cause.to_string())?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|cause| cause.to_string())?;
    let headers = parts.headers.iter().map(|(name, value)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    Ok((
        parts.status.as_u16(),
        Headers(headers.collect()),
        body.to_bytes(),
    ))
}
