//! The beacon server: guests call it, so runs are counted without trusting the host.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// At once; a suite has a few dozen guests alive, a host that leaks connections must not sink us.
const MAX_CONNECTIONS: usize = 1024;
/// Of one beacon: a guest that restarts without pause is seen, not stored without end.
const MAX_HITS: usize = 100_000;
/// A guest's words are short; a longer path is not a beacon.
const MAX_WHAT_BYTES: usize = 64;

/// A loopback HTTP server that remembers which guest called it, with what word, and when.
///
/// Dropping it closes the server; beacons handed out remain readable.
#[derive(Debug)]
pub struct Beacons {
    authority: String,
    evidence: Arc<Evidence>,
    server: JoinHandle<()>,
}

impl Beacons {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Beacons> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let authority = listener.local_addr()?.to_string();
        let evidence = Arc::new(Evidence::default());
        let server = tokio::spawn(accept(listener, evidence.clone()));
        Ok(Beacons {
            authority,
            evidence,
            server,
        })
    }

    /// `127.0.0.1:PORT`: the entry that a workload's allow-list needs.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A new beacon with a token of its own, so that no two guests are mistaken for each other.
    pub fn beacon(&self) -> Beacon {
        let token = format!("{:016x}", rand::random::<u64>());
        self.evidence.open(&token);
        Beacon {
            value: format!("{}/{token}", self.authority),
            authority: self.authority.clone(),
            token,
            evidence: self.evidence.clone(),
        }
    }
}

impl Drop for Beacons {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One guest's line to the suite.
#[derive(Clone, Debug)]
pub struct Beacon {
    /// `127.0.0.1:PORT/TOKEN`: what the guest's environment variable must hold.
    pub value: String,
    /// `127.0.0.1:PORT`: what the workload must be allowed to reach.
    pub authority: String,
    token: String,
    evidence: Arc<Evidence>,
}

/// One call of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The word that the guest sent: the rest of the path after the token.
    pub what: String,
    /// When the request arrived.
    pub at: Instant,
}

/// The word did not come often enough in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected the beacon `{what}` {wanted} times within {waited_ms} ms, got it {got} times; in all: {heard}"
)]
pub struct Silence {
    what: String,
    wanted: usize,
    got: usize,
    waited_ms: u128,
    heard: String,
}

impl Beacon {
    /// Everything heard so far, oldest first.
    pub fn hits(&self) -> Vec<Hit> {
        self.evidence.hits(&self.token)
    }

    /// How often the guest has sent that word.
    pub fn count(&self, what: &str) -> usize {
        self.hits().iter().filter(|hit| hit.what == what).count()
    }

    /// Waits until the word has come `wanted` times in all and returns those hits.
    ///
    /// Cancel safe: nothing heard is lost.
    pub async fn wait(
        &self,
        what: &str,
        wanted: usize,
        deadline: Duration,
    ) -> Result<Vec<Hit>, Silence> {
        let begun = Instant::now();
        let heard = async {
            loop {
                let arrival = self.evidence.arrival.notified();
                tokio::pin!(arrival);
                // Registered before the look, so that no hit falls in between.
                arrival.as_mut().enable();
                let mut hits = self.hits();
                hits.retain(|hit| hit.what == what);
                if hits.len() >= wanted {
                    return hits;
                }
                arrival.await;
            }
        };
        tokio::time::timeout(deadline, heard)
            .await
            .map_err(|_| Silence {
                what: what.to_owned(),
                wanted,
                got: self.count(what),
                waited_ms: begun.elapsed().as_millis(),
                heard: self.summary(),
            })
    }

    fn summary(&self) -> String {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for hit in self.hits() {
            match counts.iter_mut().find(|(what, _)| *what == hit.what) {
                Some((_, count)) => *count += 1,
                None => counts.push((hit.what, 1)),
            }
        }
        if counts.is_empty() {
            return "nothing".to_owned();
        }
        let words: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("`{what}` {n} times"))
            .collect();
        words.join(", ")
    }
}

#[derive(Debug, Default)]
struct Evidence {
    by_token: Mutex<HashMap<String, Vec<Hit>>>,
    arrival: Notify,
}

impl Evidence {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Hit>>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, token: &str) {
        self.lock().insert(token.to_owned(), Vec::new());
    }

    fn hits(&self, token: &str) -> Vec<Hit> {
        self.lock().get(token).cloned().unwrap_or_default()
    }

    /// Whether the token is known; a call beyond [`MAX_HITS`] is answered and forgotten.
    fn record(&self, token: &str, what: &str) -> bool {
        let known = match self.lock().get_mut(token) {
            Some(hits) => {
                if hits.len() < MAX_HITS {
                    hits.push(Hit {
                        what: what.to_owned(),
                        at: Instant::now(),
                    });
                }
                true
            }
            None => false,
        };
        self.arrival.notify_waiters();
        known
    }
}

async fn accept(listener: TcpListener, evidence: Arc<Evidence>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Connections die with this task: the set is dropped with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let evidence = evidence.clone();
        connections.spawn(async move {
            serve(stream, evidence).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, evidence: Arc<Evidence>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let status = listen(&evidence, request.uri().path());
        async move {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    // A guest that is killed in mid-request breaks its connection: nothing to report.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn listen(evidence: &Evidence, path: &str) -> StatusCode {
    let Some((token, what)) = path.strip_prefix('/').and_then(|rest| rest.split_once('/')) else {
        return StatusCode::NOT_FOUND;
    };
    if what.len() > MAX_WHAT_BYTES || !evidence.record(token, what) {
        return StatusCode::NOT_FOUND;
    }
    StatusCode::OK
}
