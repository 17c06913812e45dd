//! The beacon server: guests call it, so the suite counts runs without relying on the host.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::tcp_server::TcpServer;

/// Maximum number of recorded calls per guest, in case a guest restarts without pause.
const MAX_HITS: usize = 100_000;
/// Maximum length of a beacon's name. A longer path is rejected.
const MAX_NAME_BYTES: usize = 64;

/// A loopback HTTP server that records which guest sent which beacon, and when.
///
/// Dropping it closes the server; recorded beacons remain readable.
#[derive(Debug)]
pub struct BeaconServer {
    authority: String,
    hits: Arc<Hits>,
    _server: TcpServer,
}

impl BeaconServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<BeaconServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let authority = listener.local_addr()?.to_string();
        let hits = Arc::new(Hits::default());
        let served = hits.clone();
        let server = TcpServer::start(listener, move |stream| serve(stream, served.clone()));
        Ok(BeaconServer {
            authority,
            hits,
            _server: server,
        })
    }

    /// Returns `127.0.0.1:PORT`, the entry that a workload's allow-list needs.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns a beacon address with a new token, which distinguishes the calls of its guest from
    /// the calls of other guests.
    pub fn new_beacon(&self) -> Beacon {
        let token = format!("{:016x}", rand::random::<u64>());
        self.hits.register(&token);
        Beacon {
            value: format!("{}/{token}", self.authority),
            authority: self.authority.clone(),
            token,
            hits: self.hits.clone(),
        }
    }
}

/// The beacon address of one guest, and the calls to it.
#[derive(Clone, Debug)]
pub struct Beacon {
    /// `127.0.0.1:PORT/TOKEN`, the value of the guest's environment variable.
    pub value: String,
    /// `127.0.0.1:PORT`, which the workload must be allowed to reach.
    pub authority: String,
    token: String,
    hits: Arc<Hits>,
}

/// One call of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Name of the beacon: the path after the token.
    pub name: String,
    /// Time of arrival.
    pub at: Instant,
}

/// The beacon did not arrive often enough in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected the beacon `{name}` {expected} times within {limit_ms} ms, received it {actual} \
     times; all beacons: {summary}"
)]
pub struct BeaconTimeout {
    name: String,
    expected: usize,
    actual: usize,
    limit_ms: u128,
    summary: String,
}

/// Withholds the responses to the calls of one guest until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the guard sends the responses"]
pub struct BeaconHold {
    _released: watch::Sender<()>,
}

impl Beacon {
    /// Withholds the responses to all calls from now on until the guard is dropped, so that the
    /// guest waits in its call. The calls are recorded when they arrive.
    pub fn hold(&self) -> BeaconHold {
        let (released, held) = watch::channel(());
        if let Some(calls) = self.hits.lock().get_mut(&self.token) {
            calls.held = Some(held);
        }
        BeaconHold {
            _released: released,
        }
    }

    /// Responds to all calls from now on with 302 and this `Location`.
    pub fn redirect_to(&self, location: &str) {
        if let Some(calls) = self.hits.lock().get_mut(&self.token) {
            calls.location = HeaderValue::from_str(location).ok();
        }
    }

    /// Returns all calls so far, oldest first.
    pub fn hits(&self) -> Vec<Hit> {
        self.hits.with_token(&self.token)
    }

    /// Returns how often the guest has sent the beacon `name`.
    pub fn count(&self, name: &str) -> usize {
        self.hits().iter().filter(|hit| hit.name == name).count()
    }

    /// Waits until the beacon `name` has arrived `expected` times in total, and returns these
    /// calls.
    ///
    /// Cancel safe: no call is lost.
    pub async fn wait(
        &self,
        name: &str,
        expected: usize,
        limit: Duration,
    ) -> Result<Vec<Hit>, BeaconTimeout> {
        let started_at = Instant::now();
        let received = async {
            loop {
                let arrival = self.hits.arrival.notified();
                tokio::pin!(arrival);
                // Registered before the hits are read, so that no call is missed.
                arrival.as_mut().enable();
                let mut hits = self.hits();
                hits.retain(|hit| hit.name == name);
                if hits.len() >= expected {
                    return hits;
                }
                arrival.await;
            }
        };
        tokio::time::timeout(limit, received)
            .await
            .map_err(|_| BeaconTimeout {
                name: name.to_owned(),
                expected,
                actual: self.count(name),
                limit_ms: started_at.elapsed().as_millis(),
                summary: self.summary(),
            })
    }

    fn summary(&self) -> String {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for hit in self.hits() {
            match counts.iter_mut().find(|(name, _)| *name == hit.name) {
                Some((_, count)) => *count += 1,
                None => counts.push((hit.name, 1)),
            }
        }
        if counts.is_empty() {
            return "none".to_owned();
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(name, count)| format!("`{name}` {count} times"))
            .collect();
        counts.join(", ")
    }
}

/// The recorded calls of all guests.
#[derive(Debug, Default)]
struct Hits {
    by_token: Mutex<HashMap<String, Calls>>,
    arrival: Notify,
}

/// The recorded calls of one guest.
#[derive(Debug, Default)]
struct Calls {
    hits: Vec<Hit>,
    held: Option<watch::Receiver<()>>,
    /// Destination of a redirect.
    location: Option<HeaderValue>,
}

/// The response to a call.
#[derive(Debug)]
struct Answer {
    held: Option<watch::Receiver<()>>,
    location: Option<HeaderValue>,
}

impl Hits {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Calls>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, token: &str) {
        self.lock().insert(token.to_owned(), Calls::default());
    }

    fn with_token(&self, token: &str) -> Vec<Hit> {
        let calls = self.lock();
        calls
            .get(token)
            .map(|calls| calls.hits.clone())
            .unwrap_or_default()
    }

    /// Records a call. Returns the answer to it, or `None` if the token does not exist. Calls
    /// beyond [`MAX_HITS`] are not stored.
    fn record(&self, token: &str, name: &str) -> Option<Answer> {
        let answer = self.lock().get_mut(token).map(|calls| {
            if calls.hits.len() < MAX_HITS {
                calls.hits.push(Hit {
                    name: name.to_owned(),
                    at: Instant::now(),
                });
            }
            Answer {
                held: calls.held.clone(),
                location: calls.location.clone(),
            }
        });
        self.arrival.notify_waiters();
        answer
    }
}

async fn serve(stream: TcpStream, hits: Arc<Hits>) {
    let service = service_fn(|request: Request<Incoming>| {
        let received = receive(&hits, request.uri().path());
        async move {
            let mut response = Response::new(Full::<Bytes>::default());
            let Some(answer) = received else {
                *response.status_mut() = StatusCode::NOT_FOUND;
                return Ok(response);
            };
            if let Some(mut held) = answer.held {
                while held.changed().await.is_ok() {}
            }
            if let Some(location) = answer.location {
                *response.status_mut() = StatusCode::FOUND;
                response.headers_mut().insert(LOCATION, location);
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A guest that is killed during a request breaks its connection, which is not an error.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Records the call with this path. Returns the answer to it, or `None` if it has no token.
fn receive(hits: &Hits, path: &str) -> Option<Answer> {
    let (token, name) = path.strip_prefix('/')?.split_once('/')?;
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    hits.record(token, name)
}
