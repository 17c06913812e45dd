//! A mock registry on loopback: responds as a test demands, and records the requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_host::image::Digest;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::{Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, io::Error>>>;

/// Address of the registries, with a free port.
const LOOPBACK: &str = "127.0.0.1:0";

/// A request that the registry received.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub path: String,
    pub query: String,
    pub host: String,
    pub authorization: Option<String>,
}

/// The response to a request.
pub enum MockResponse {
    Never,
    With(Response<Body>),
}

/// The registry; it stops when dropped.
pub struct MockRegistry {
    pub address: SocketAddr,
    log: Arc<RequestLog>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct RequestLog {
    requests: Mutex<Vec<ReceivedRequest>>,
    added: Notify,
}

impl MockRegistry {
    pub async fn serve(
        respond: impl Fn(&ReceivedRequest) -> MockResponse + Send + Sync + 'static,
    ) -> Self {
        Self::serve_async(move |request| std::future::ready(respond(&request))).await
    }

    pub async fn serve_async<F, R>(respond: F) -> Self
    where
        F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
        R: Future<Output = MockResponse> + Send + 'static,
    {
        Self::serve_over(LOOPBACK, None, respond).await
    }

    /// Serves `image` on the IPv6 loopback, without authentication.
    pub async fn of_ipv6(image: &Image) -> Self {
        let image = image.clone();
        let respond = move |request: ReceivedRequest| std::future::ready(image.respond(&request));
        Self::serve_over("[::1]:0", None, respond).await
    }

    /// Serves over TLS.
    pub async fn serve_tls(tls: TlsAcceptor, image: &Image) -> Self {
        let image = image.clone();
        let respond = move |request: ReceivedRequest| std::future::ready(image.respond(&request));
        Self::serve_over(LOOPBACK, Some(tls), respond).await
    }

    async fn serve_over<F, R>(address: &str, tls: Option<TlsAcceptor>, respond: F) -> Self
    where
        F: Fn(ReceivedRequest) -> R + Send + Sync + 'static,
        R: Future<Output = MockResponse> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(RequestLog::default());
        let (respond, requests) = (Arc::new(respond), log.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (respond, requests) = (respond.clone(), requests.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let response = respond(requests.record(&request));
                    async move {
                        match response.await {
                            MockResponse::With(response) => Ok::<_, Infallible>(response),
                            MockResponse::Never => std::future::pending().await,
                        }
                    }
                });
                let tls = tls.clone();
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // Fails only if the client disconnects or the test demands it.
                    let _ = match tls {
                        None => http.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => {
                                http.serve_connection(TokioIo::new(stream), service).await
                            }
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Self {
            address,
            log,
            _server: server,
        }
    }

    /// Serves `image` without authentication, under the tag `1` and its digests.
    pub async fn of(image: &Image) -> Self {
        let image = image.clone();
        Self::serve(move |request| image.respond(request)).await
    }

    /// Returns a reference to an image in this registry.
    pub fn image(&self, version: &str) -> String {
        format!("{}/acme/hello{version}", self.address)
    }

    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.log.requests.lock().unwrap().clone()
    }

    /// Returns the number of requests whose path contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.path.contains(part))
            .count()
    }

    /// Waits until there were `times` requests whose path contains `part`.
    pub async fn wait_for_requests(&self, part: &str, times: usize) {
        let wait = async {
            loop {
                let added = self.log.added.notified();
                if self.count(part) >= times {
                    return;
                }
                added.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("requests arrive in time");
    }
}

impl RequestLog {
    fn record(&self, request: &Request<Incoming>) -> ReceivedRequest {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let host = request.headers().get(header::HOST).unwrap();
        let request = ReceivedRequest {
            host: host.to_str().unwrap().to_owned(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
        };
        self.requests.lock().unwrap().push(request.clone());
        self.added.notify_waiters();
        request
    }
}

/// A valid image with one layer.
#[derive(Clone)]
pub struct Image {
    pub layer: Bytes,
    pub manifest: Bytes,
}

impl Image {
    pub fn new(layer: impl Into<Bytes>) -> Self {
        let layer = layer.into();
        let layers = vec![descriptor("application/wasm", &layer)];
        Self {
            manifest: manifest(layers),
            layer,
        }
    }

    pub fn layer_digest(&self) -> String {
        Digest::of(&self.layer).to_string()
    }

    pub fn manifest_digest(&self) -> String {
        Digest::of(&self.manifest).to_string()
    }

    pub fn respond(&self, request: &ReceivedRequest) -> MockResponse {
        let (manifest, layer) = (self.manifest_digest(), self.layer_digest());
        match request.path.strip_prefix("/v2/acme/hello/") {
            Some("manifests/1") => ok(self.manifest.clone()),
            Some(path) if path == format!("manifests/{manifest}") => ok(self.manifest.clone()),
            Some(path) if path == format!("blobs/{layer}") => ok(self.layer.clone()),
            _ => status(
                404,
                json!({"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}),
            ),
        }
    }
}

pub fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    let digest = Digest::of(content).to_string();
    json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

pub fn manifest(layers: Vec<serde_json::Value>) -> Bytes {
    let config = descriptor("application/vnd.wasm.config.v0+json", b"{}");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let text =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    text.to_string().into()
}

pub fn ok(body: impl Into<Bytes>) -> MockResponse {
    let body = body.into();
    let length = body.len();
    streamed(stream::iter([Ok(body)]).boxed(), Some(length))
}

pub fn status(code: u16, body: serde_json::Value) -> MockResponse {
    respond_with(code, &[], body.to_string())
}

pub fn respond_with(code: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> MockResponse {
    let MockResponse::With(mut response) = ok(body) else {
        unreachable!()
    };
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    for (name, value) in headers {
        let name = header::HeaderName::try_from(*name).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    MockResponse::With(response)
}

/// Announces `length` bytes, sends `content`, and then stalls.
pub fn stalls_after(content: Bytes, length: usize) -> MockResponse {
    let rest = stream::pending();
    streamed(
        stream::iter([Ok(content)]).chain(rest).boxed(),
        Some(length),
    )
}

/// Announces `length` bytes, sends `content`, and then breaks the connection.
pub fn breaks_after(content: Bytes, length: usize) -> MockResponse {
    let broken = stream::once(async {
        // One turn of the event loop, in which the server sends its buffer.
        tokio::task::yield_now().await;
        Err(io::Error::other("intended by the test"))
    });
    streamed(
        stream::iter([Ok(content)]).chain(broken).boxed(),
        Some(length),
    )
}

/// Responds with an endless body without a length.
pub fn endless() -> MockResponse {
    let chunk = Bytes::from(vec![b' '; 64 << 10]);
    streamed(stream::repeat(chunk).map(Ok).boxed(), None)
}

fn streamed(chunks: BoxStream<'static, io::Result<Bytes>>, length: Option<usize>) -> MockResponse {
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)).boxed());
    let mut response = Response::new(body);
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    MockResponse::With(response)
}
