//! The endpoints for whoever watches the process: `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// A loop that was not heard of for so long is stuck; it turns at least once a second.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Connections at once: one or two probes, one or two scrapers.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the loop shows that it is well.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    last_beat_ms: AtomicU64,
    ready: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last_beat_ms: AtomicU64::new(0),
            ready: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// The loop has turned.
    pub fn beat(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat_ms.store(now_ms, Ordering::Relaxed);
    }

    /// It has seen everything that the store holds.
    pub fn synced(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// It waits for its turn, and is ready to take over.
    pub fn stand_by(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn is_stuck(&self) -> bool {
        let last = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last) > STUCK_AFTER
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// What an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// `/healthz` and `/readyz`.
    Probes,
    /// `/metrics`.
    Metrics,
    /// All of them, where both are given one address.
    Both,
}

/// The endpoints of one process.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The loop.
    pub pulse: Arc<Pulse>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl Endpoints {
    /// Listens, and serves in the background until the runtime ends. Returns the address, for port 0.
    ///
    /// # Errors
    ///
    /// An address that cannot be listened at.
    pub async fn listen(self, address: SocketAddr, serves: Serves) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        if serves != Serves::Probes {
            self.metrics.set_served();
        }
        tokio::spawn(self.accept(listener, serves));
        Ok(local)
    }

    async fn accept(self, listener: TcpListener, serves: Serves) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((connection, _)) => {
                    let endpoints = self.clone();
                    tokio::spawn(async move {
                        endpoints.serve(connection, serves).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, connection: TcpStream, serves: Serves) {
        let answer = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(request.uri().path(), serves);
            async { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(connection), answer)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    fn answer(&self, path: &str, serves: Serves) -> Response<Full<Bytes>> {
        let (status, text) = match (path, serves) {
            ("/healthz" | "/healthz/", Serves::Probes | Serves::Both) => {
                match self.pulse.is_stuck() {
                    false => (StatusCode::OK, "ok\n".to_owned()),
                    true => (StatusCode::INTERNAL_SERVER_ERROR, "stuck\n".to_owned()),
                }
            }
            ("/readyz" | "/readyz/", Serves::Probes | Serves::Both) => {
                match self.pulse.is_ready() {
                    true => (StatusCode::OK, "ok\n".to_owned()),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "not yet\n".to_owned()),
                }
            }
            ("/metrics", Serves::Metrics | Serves::Both) => (StatusCode::OK, self.metrics.text()),
            _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
        response
            .headers_mut()
            .insert(hyper::header::CONTENT_TYPE, plain);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(endpoints: &Endpoints, serves: Serves) -> [u16; 3] {
        ["/healthz", "/readyz", "/metrics"]
            .map(|path| endpoints.answer(path, serves).status().as_u16())
    }

    #[test]
    fn an_address_serves_what_it_is_for() {
        let endpoints = Endpoints {
            pulse: Arc::default(),
            metrics: Arc::default(),
        };
        assert_eq!(statuses(&endpoints, Serves::Both), [200, 503, 200]);
        endpoints.pulse.synced();
        assert_eq!(statuses(&endpoints, Serves::Probes), [200, 200, 404]);
        assert_eq!(statuses(&endpoints, Serves::Metrics), [404, 404, 200]);
    }

    #[tokio::test]
    async fn metrics_are_served_where_one_address_is_for_them() {
        for (serves, expected) in [(Serves::Probes, false), (Serves::Metrics, true)] {
            let endpoints = Endpoints {
                pulse: Arc::default(),
                metrics: Arc::default(),
            };
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            endpoints.clone().listen(any, serves).await.unwrap();
            assert_eq!(endpoints.metrics.are_served(), expected, "{serves:?}");
        }
    }
}
