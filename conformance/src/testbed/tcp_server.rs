//! A TCP server with bounded connections, all of which end with it.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Maximum number of open connections per server. A suite needs a few dozen; the limit exists,
/// because a target that leaks connections must not exhaust the suite.
const MAX_CONNECTIONS: usize = 1024;

/// Accepts connections until dropped; then the port refuses connections, and all open ones are
/// closed.
#[derive(Debug)]
pub(super) struct TcpServer(JoinHandle<()>);

impl TcpServer {
    /// Starts to accept connections and runs `serve` for each of them.
    pub fn start<F, C>(listener: TcpListener, serve: F) -> TcpServer
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        TcpServer(tokio::spawn(accept(listener, serve)))
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept<F, C>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The connections end with this task, which owns the set.
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let connection = serve(stream);
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
}
