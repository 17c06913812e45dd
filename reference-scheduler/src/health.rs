//! The HTTP endpoints of the process: `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use berth_sdk::listen::{self, Acceptor, Connection, ConnectionLimits, ConnectionStream};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store::Problems;

/// Time without progress after which the main loop counts as stuck: long compared with the second
/// within which a working loop makes progress.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Limits of each address: far more connections than the usual one or two probes and one or two
/// scrapers, and no request that takes long.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 64,
    head_timeout: Duration::from_secs(5),
    idle_timeout: Some(Duration::from_secs(75)),
    request_timeout: Some(Duration::from_secs(5)),
};
/// Maximum number of problems at `/readyz`, a screenful.
const PROBLEMS_MAX: usize = 20;

/// The health of the main loop, as the loop reports it.
#[derive(Debug)]
pub struct HealthProbe {
    started_at: Instant,
    last_progress_ms: AtomicU64,
    ready: AtomicBool,
    /// Problems of the store, once the loop runs.
    problems: OnceLock<watch::Receiver<Problems>>,
}

impl Default for HealthProbe {
    fn default() -> Self {
        Self {
            started_at: Instant::now(),
            last_progress_ms: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            problems: OnceLock::new(),
        }
    }
}

impl HealthProbe {
    /// Records that the loop has completed an iteration.
    pub fn record_progress(&self) {
        let now_ms = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_progress_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Records that the loop has seen every object of the store, which makes it ready.
    pub fn set_synced(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Records that the loop is on standby, which makes it ready, too.
    pub fn set_standby(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Shows the problems of the store at `/readyz`.
    pub fn watch_problems(&self, problems: watch::Receiver<Problems>) {
        // The loop runs once in each process.
        let _ = self.problems.set(problems);
    }

    /// Returns the status and the text of `/readyz`. Problems of the store are listed; they make
    /// the process unready only if it can read no object at all.
    fn readiness(&self) -> (StatusCode, String) {
        let problems = self
            .problems
            .get()
            .map(|problems| problems.borrow().clone());
        let Problems { list, is_unusable } = problems.unwrap_or_default();
        let (status, mut text) = if self.is_ready() && !is_unusable {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
        };
        for problem in list.iter().take(PROBLEMS_MAX) {
            text.push_str(problem);
            text.push('\n');
        }
        let left_out = list.len().saturating_sub(PROBLEMS_MAX);
        if left_out > 0 {
            text.push_str(&format!("{left_out} more\n"));
        }
        (status, text)
    }

    fn is_stuck(&self) -> bool {
        let last = Duration::from_millis(self.last_progress_ms.load(Ordering::Relaxed));
        self.started_at.elapsed().saturating_sub(last) > STUCK_AFTER
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// The endpoints of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// `/healthz` and `/readyz`.
    Probes,
    /// `/metrics`.
    Metrics,
    /// All endpoints, if both kinds have the same address.
    Both,
}

/// The endpoints of one process.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The health of the main loop.
    pub health: Arc<HealthProbe>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Endpoints {
    /// Listens and serves in the background until the runtime ends. Returns the bound address,
    /// which matters for port 0.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn listen(self, address: SocketAddr, serves: Serves) -> io::Result<SocketAddr> {
        let acceptor = Acceptor::new(listen::bind(address)?, LIMITS);
        let local = acceptor.local_addr()?;
        if serves != Serves::Probes {
            self.metrics.set_served();
        }
        tokio::spawn(async move {
            loop {
                let (stream, connection) = acceptor.accept().await;
                tokio::spawn(self.clone().serve(stream, connection, serves));
            }
        });
        Ok(local)
    }

    async fn serve(self, stream: TcpStream, connection: Connection, serves: Serves) {
        let stream = ConnectionStream::new(stream, connection.clone(), Bytes::new());
        let requests = connection.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let _in_flight = requests.begin_request();
            let response = self.respond(request.uri().path(), serves);
            async { Ok::<_, Infallible>(response) }
        });
        // Without a timer, the server has no deadlines; the connection has its own.
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::debug!(%error, "connection failed");
                }
            }
            () = connection.expired() => {}
        }
    }

    fn respond(&self, path: &str, serves: Serves) -> Response<Full<Bytes>> {
        let (status, text) = match (path, serves) {
            ("/healthz" | "/healthz/", Serves::Probes | Serves::Both) => {
                if self.health.is_stuck() {
                    (StatusCode::INTERNAL_SERVER_ERROR, "stuck\n".to_owned())
                } else {
                    (StatusCode::OK, "ok\n".to_owned())
                }
            }
            ("/readyz" | "/readyz/", Serves::Probes | Serves::Both) => self.health.readiness(),
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn statuses(endpoints: &Endpoints, serves: Serves) -> [u16; 3] {
        ["/healthz", "/readyz", "/metrics"]
            .map(|path| endpoints.respond(path, serves).status().as_u16())
    }

    #[test]
    fn serves_only_endpoints_of_address() {
        let endpoints = Endpoints {
            health: Arc::default(),
            metrics: Arc::default(),
        };
        assert_eq!(statuses(&endpoints, Serves::Both), [200, 503, 200]);
        endpoints.health.set_synced();
        assert_eq!(statuses(&endpoints, Serves::Probes), [200, 200, 404]);
        assert_eq!(statuses(&endpoints, Serves::Metrics), [404, 404, 200]);
    }

    #[test]
    fn readiness_lists_problems_of_store() {
        let (health, (sender, problems)) =
            (HealthProbe::default(), watch::channel(Problems::default()));
        health.set_synced();
        health.watch_problems(problems);
        assert_eq!(health.readiness(), (StatusCode::OK, "ok\n".to_owned()));
        sender.send_modify(|problems| problems.list = vec!["a.yaml: invalid".to_owned(); 30]);
        let (status, text) = health.readiness();
        assert_eq!(status, StatusCode::OK);
        assert!(
            text.starts_with("ok\na.yaml: invalid\n") && text.ends_with("\n10 more\n"),
            "{text}"
        );
        sender.send_modify(|problems| problems.is_unusable = true);
        assert_eq!(health.readiness().0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn silent_connections_delay_no_probe() {
        let endpoints = Endpoints {
            health: Arc::default(),
            metrics: Arc::default(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = endpoints.listen(any, Serves::Both).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..LIMITS.connections_max + 10 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let probe = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        };
        let response = tokio::time::timeout(LIMITS.head_timeout / 2, probe).await;
        assert!(response.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_count_as_served_only_at_their_address() {
        for (serves, expected) in [(Serves::Probes, false), (Serves::Metrics, true)] {
            let endpoints = Endpoints {
                health: Arc::default(),
                metrics: Arc::default(),
            };
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            endpoints.clone().listen(any, serves).await.unwrap();
            assert_eq!(endpoints.metrics.are_served(), expected, "{serves:?}");
        }
    }
}
