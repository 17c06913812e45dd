//! A small registry on loopback that does what a test tells it, and remembers what it was asked.

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

/// What the registry was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub host: String,
    pub authorization: Option<String>,
}

/// What it answers.
pub enum Reply {
    Never,
    With(Response<Body>),
}

/// The registry; it is gone when dropped.
pub struct Registry {
    pub address: SocketAddr,
    log: Arc<Log>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    more: Notify,
}

impl Registry {
    pub async fn serve(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve_async(move |asked| std::future::ready(answer(&asked))).await
    }

    pub async fn serve_async<F, R>(answer: F) -> Self
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        Self::serve_over(None, answer).await
    }

    /// Serves over TLS.
    pub async fn serve_tls(tls: TlsAcceptor, image: &Image) -> Self {
        let image = image.clone();
        let answer = move |asked: Asked| std::future::ready(image.answer(&asked));
        Self::serve_over(Some(tls), answer).await
    }

    async fn serve_over<F, R>(tls: Option<TlsAcceptor>, answer: F) -> Self
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, log) = (listener.local_addr().unwrap(), Arc::new(Log::default()));
        let (answer, seen) = (Arc::new(answer), log.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, seen) = (answer.clone(), seen.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let asked = seen.note(&request);
                    let reply = answer(asked);
                    async move {
                        match reply.await {
                            Reply::With(response) => Ok::<_, Infallible>(response),
                            Reply::Never => std::future::pending().await,
                        }
                    }
                });
                let tls = tls.clone();
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // What fails is a client that goes away, or what a test wants to fail.
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

    /// Serves `image` under the tag `1` and its digests, without being asked twice.
    pub async fn of(image: &Image) -> Self {
        let image = image.clone();
        Self::serve(move |asked| image.answer(asked)).await
    }

    /// A reference into this registry.
    pub fn image(&self, version: &str) -> String {
        format!("{}/acme/hello{version}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.asked.lock().unwrap().clone()
    }

    /// How often a path with this part was asked for.
    pub fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path.contains(part))
            .count()
    }

    /// Waits until a path with this part was asked for `times` times.
    pub async fn was_asked(&self, part: &str, times: usize) {
        let wait = async {
            loop {
                let more = self.log.more.notified();
                if self.count(part) >= times {
                    return;
                }
                more.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("never asked");
    }
}

impl Log {
    fn note(&self, request: &Request<Incoming>) -> Asked {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let host = request.headers().get(header::HOST).unwrap();
        let asked = Asked {
            host: host.to_str().unwrap().to_owned(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
        };
        self.asked.lock().unwrap().push(asked.clone());
        self.more.notify_waiters();
        asked
    }
}

/// A well-formed image of one layer.
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

    pub fn answer(&self, asked: &Asked) -> Reply {
        let (manifest, layer) = (self.manifest_digest(), self.layer_digest());
        match asked.path.strip_prefix("/v2/acme/hello/") {
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

pub fn ok(body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let length = body.len();
    streamed(stream::iter([Ok(body)]).boxed(), Some(length))
}

pub fn status(code: u16, body: serde_json::Value) -> Reply {
    with(code, &[], body.to_string())
}

pub fn with(code: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let Reply::With(mut response) = ok(body) else {
        unreachable!()
    };
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    for (name, value) in headers {
        let name = header::HeaderName::try_from(*name).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    Reply::With(response)
}

/// `content` and then silence.
pub fn stalls_after(content: Bytes, length: usize) -> Reply {
    let rest = stream::pending();
    streamed(
        stream::iter([Ok(content)]).chain(rest).boxed(),
        Some(length),
    )
}

/// `content` and then a broken connection.
pub fn breaks_after(content: Bytes, length: usize) -> Reply {
    let broken = stream::once(async {
        // One turn of the loop, in which the server sends what it has.
        tokio::task::yield_now().await;
        Err(io::Error::other("as the test wants"))
    });
    streamed(
        stream::iter([Ok(content)]).chain(broken).boxed(),
        Some(length),
    )
}

/// A body that never ends, without a length.
pub fn endless() -> Reply {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    streamed(stream::repeat(piece).map(Ok).boxed(), None)
}

fn streamed(pieces: BoxStream<'static, io::Result<Bytes>>, length: Option<usize>) -> Reply {
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)).boxed());
    let mut response = Response::new(body);
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    Reply::With(response)
}
