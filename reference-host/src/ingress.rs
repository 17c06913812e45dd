//! The HTTP ingress: accepts requests and routes each to a workload by its `Host`.

mod connection;
mod host_header;
mod protocol;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use berth_sdk::listen::Connections;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use self::routes::{Lookup, Routes, TargetId};
pub use self::server::{Server, ServerError};
use crate::engine::Handler;

/// The HTTP ingress of the host: its routes and address. Clones are cheap.
#[derive(Clone)]
pub struct Ingress {
    table: Arc<RouteTable>,
    address: SocketAddr,
    connections: Connections,
    draining: CancellationToken,
}

/// The routes of all workloads. Readers never block: a change replaces the whole table.
#[derive(Default)]
struct RouteTable {
    current: ArcSwap<Routes<Handler>>,
    write_lock: Mutex<()>,
}

/// The routes of one workload, removed when dropped.
pub struct Registration {
    table: Arc<RouteTable>,
    id: TargetId,
}

impl Ingress {
    /// Listens on `address`; port 0 chooses a free port. The server runs on `guest_runtime` until
    /// it is dropped.
    pub fn listen(
        address: SocketAddr,
        connections_max: usize,
        guest_runtime: &Handle,
    ) -> Result<(Self, Server), ServerError> {
        let table = Arc::new(RouteTable::default());
        let server = Server::listen(address, connections_max, table.clone(), guest_runtime)?;
        let ingress = Self {
            table,
            address: server.local_address(),
            connections: server.connections(),
            draining: server.draining(),
        };
        Ok((ingress, server))
    }

    /// Closes each connection as soon as it has no request in flight, and returns when none is
    /// open. Until then, new connections and requests are served.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.connections.closed().await;
    }

    /// Returns the bound address.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Routes requests for `host_names` to the handler until the registration is dropped. Workloads
    /// with the same host name share its requests.
    pub fn register(&self, host_names: &[String], handler: Handler) -> Registration {
        let id = self.table.update(|routes| routes.add(host_names, handler));
        Registration {
            table: self.table.clone(),
            id,
        }
    }
}

impl Registration {
    /// Routes requests to `handler` from now on. `None` means that the workload has no handler for
    /// a while: its requests get 503 instead of 404.
    pub fn replace(&self, handler: Option<&Handler>) {
        self.table.update(|routes| routes.replace(self.id, handler));
    }
}

impl RouteTable {
    fn update<R>(&self, change: impl FnOnce(&mut Routes<Handler>) -> R) -> R {
        let _guard = self
            .write_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut routes = Routes::clone(&self.current.load());
        let result = change(&mut routes);
        self.current.store(Arc::new(routes));
        result
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.update(|routes| routes.remove(self.id));
    }
}
