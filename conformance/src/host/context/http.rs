//! HTTP requests to the host's ingress.

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

/// The suite's guests answer with a few bytes; an endless answer must not fill the memory.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How long an answer is waited for when the check names no time of its own.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the host's ingress answered.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code; 0 when there was no answer, which `trouble` explains.
    pub status: u16,
    /// Header lines.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// From connecting to the last byte.
    pub took: Duration,
    /// Why there was no answer.
    pub trouble: Option<String>,
}

impl HttpAnswer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Display for HttpAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.trouble {
            Some(trouble) => write!(f, "no HTTP answer: {trouble}"),
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
    /// A host name of the check's own, for a workload's `wasi:http`.
    pub fn http_name(&self, label: &str) -> String {
        let tag: String = self
            .tag()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!(
            "{label}.{}.berth.test",
            tag.to_lowercase().trim_matches('-')
        )
    }

    /// `GET path` with that `Host`, on a connection of its own.
    ///
    /// # Errors
    /// The host has no ingress that the suite knows. A refused connection is an answer with `trouble`.
    pub async fn http(&self, host: &str, path: &str) -> Result<HttpAnswer, Blocked> {
        let request = Request::get(path)
            .header("Host", host)
            .body(Bytes::new())
            .map_err(|cause| Blocked::harness("the HTTP request is not well formed", cause))?;
        self.http_send(request, ANSWER_WITHIN).await
    }

    /// Any request on a connection of its own; nothing is added to it.
    ///
    /// # Errors
    /// The host has no ingress that the suite knows.
    pub async fn http_send(
        &self,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<HttpAnswer, Blocked> {
        let authority = self.http_authority()?.to_owned();
        let began = Instant::now();
        let exchange = tokio::time::timeout(within, exchange(&authority, request)).await;
        let trouble = match exchange {
            Ok(Ok((status, headers, body))) => {
                return Ok(HttpAnswer {
                    status,
                    headers,
                    body,
                    took: began.elapsed(),
                    trouble: None,
                });
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => format!("nothing within {}", crate::check::wait::seconds(within)),
        };
        Ok(HttpAnswer {
            status: 0,
            headers: Headers::none(),
            body: Bytes::new(),
            took: began.elapsed(),
            trouble: Some(trouble),
        })
    }

    /// `ADDRESS:PORT` of the host's ingress.
    ///
    /// # Errors
    /// The host has none that the suite knows. Declare `needs: [Ingress]` and this cannot happen.
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
    // Dropped with the exchange, so that a request given up leaves no connection behind.
    let _driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender
        .send_request(request.map(Full::new))
        .await
        .map_err(|c| c.to_string())?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|c| c.to_string())?;
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
