//! HTTP requests to the ingress of the host.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::CheckContext;
use crate::check::outcome::Blocked;
use crate::wire::response::Headers;

/// Limit on a response body. The suite's guests return a few bytes; an endless body must not fill
/// memory.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Default timeout of a request, to which the patience is added. Long, because the specification
/// sets no time within which a guest responds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

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
        let mut connection = self.http_connection()?;
        Ok(connection.send_within(request, within).await)
    }

    /// Returns a connection for several requests, which opens with the first of them.
    ///
    /// # Errors
    /// Fails if the host has no known ingress.
    pub fn http_connection(&self) -> Result<HttpConnection, Blocked> {
        Ok(HttpConnection {
            authority: self.http_authority()?.to_owned(),
            patience: self.fixture().patience(),
            open: None,
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

/// Connection to the ingress that several requests use, one after another.
#[derive(Debug)]
pub struct HttpConnection {
    authority: String,
    patience: Duration,
    open: Option<OpenConnection>,
}

impl HttpConnection {
    /// Sends a request with the default timeout.
    pub async fn send(&mut self, request: Request<Bytes>) -> HttpResponse {
        self.send_within(request, REQUEST_TIMEOUT).await
    }

    /// Sends a request. If the host has closed the connection after an earlier request, which it
    /// may do at any time, the request is sent on a new connection.
    async fn send_within(&mut self, request: Request<Bytes>, within: Duration) -> HttpResponse {
        let started_at = Instant::now();
        let within = within + self.patience;
        let exchange = tokio::time::timeout(within, self.exchange(request)).await;
        let error = match exchange {
            Ok(Ok((status, headers, body))) => {
                return HttpResponse {
                    status,
                    headers,
                    body,
                    elapsed: started_at.elapsed(),
                    error: None,
                };
            }
            Ok(Err(error)) => error,
            Err(_) => format!("no response within {}", crate::check::wait::seconds(within)),
        };
        HttpResponse {
            status: 0,
            headers: Headers::none(),
            body: Bytes::new(),
            elapsed: started_at.elapsed(),
            error: Some(error),
        }
    }

    async fn exchange(&mut self, request: Request<Bytes>) -> Result<Exchanged, String> {
        if let Some(mut used) = self.open.take()
            && let Ok(exchanged) = used.exchange(request.clone()).await
        {
            self.open = Some(used);
            return Ok(exchanged);
        }
        let mut open = OpenConnection::connect(&self.authority).await?;
        let exchanged = open.exchange(request).await;
        self.open = Some(open);
        exchanged
    }
}

/// Status, headers and body of a response.
type Exchanged = (u16, Headers, Bytes);

#[derive(Debug)]
struct OpenConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Aborted on drop, so that a request that timed out leaves no connection open.
    _driver: AbortOnDropHandle<Result<(), hyper::Error>>,
}

impl OpenConnection {
    async fn connect(authority: &str) -> Result<OpenConnection, String> {
        let stream = TcpStream::connect(authority)
            .await
            .map_err(|cause| cause.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| cause.to_string())?;
        Ok(OpenConnection {
            sender,
            _driver: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }

    async fn exchange(&mut self, request: Request<Bytes>) -> Result<Exchanged, String> {
        let ready = self.sender.ready().await;
        ready.map_err(|cause| cause.to_string())?;
        let response = self
            .sender
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
}
