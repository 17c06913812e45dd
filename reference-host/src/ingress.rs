//! The HTTP ingress: accepts requests and routes each to a workload by its `Host`.

mod host_header;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

pub use self::routes::{DeclaredHostNameError, Routes, TargetId, declared_host_names};
pub use self::server::{Server, ServerError};
use crate::engine::Handler;

/// The HTTP ingress of the host: its routes and address. Clones are cheap.
#[derive(Clone)]
pub struct Ingress {
    table: Arc<RouteTable>,
    address: SocketAddr,
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
        guest_runtime: &Handle,
    ) -> Result<(Self, Server), ServerError> {
        let table = Arc::new(RouteTable::default());
        let server = Server::listen(address, table.clone(), guest_runtime)?;
        let address = server.local_address();
        Ok((Self { table, address }, server))
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
