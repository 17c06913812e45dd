//! The HTTP ingress: accepts requests and routes each to a workload by its `Host`.

mod host_header;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

pub use self::routes::{DeclaredHostError, RouteId, Routes, declared_hosts};
pub use self::server::{Server, ServerError};
use crate::engine::Handler;

/// The HTTP ingress of the host: its routes and address. Clones are cheap.
#[derive(Clone)]
pub struct Ingress {
    table: Arc<Table>,
    address: SocketAddr,
}

/// The routes of all workloads. Readers never block: a change replaces the whole table.
#[derive(Default)]
struct Table {
    current: ArcSwap<Routes<Handler>>,
    write_lock: Mutex<()>,
}

/// The routes of one workload, removed when dropped.
pub struct Registration {
    table: Arc<Table>,
    id: RouteId,
}

impl Ingress {
    /// Listens on `address`; port 0 chooses a free port. The server runs on the runtime of the
    /// guests until it is dropped.
    pub fn listen(address: SocketAddr, guests: &Handle) -> Result<(Self, Server), ServerError> {
        let table = Arc::new(Table::default());
        let server = Server::listen(address, table.clone(), guests)?;
        let address = server.local_address();
        Ok((Self { table, address }, server))
    }

    /// Returns the bound address.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Routes requests for `hosts` to the handler until the registration is dropped. Workloads with
    /// the same host share its requests.
    pub fn register(&self, hosts: &[String], handler: Handler) -> Registration {
        let id = self.table.update(|routes| routes.add(hosts, handler));
        Registration {
            table: self.table.clone(),
            id,
        }
    }
}

impl Table {
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
