//! The HTTP ingress: takes requests in and hands each to a workload by its `Host`.

mod host_header;
mod routes;
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

pub use self::routes::{BadHost, RouteId, Routes, declared_hosts};
pub use self::server::{Server, ServerError};
use crate::engine::Handler;

/// The door of the host: its routes, and the server in front of them. A cheap clone.
#[derive(Clone)]
pub struct Ingress {
    table: Arc<Table>,
    address: SocketAddr,
}

/// The routes of all workloads. Readers never wait: they see the table as it was before a change, or
/// as it is after.
#[derive(Default)]
struct Table {
    current: ArcSwap<Routes<Handler>>,
    changing: Mutex<()>,
}

/// The routes of one workload; they end when this is dropped.
pub struct Registration {
    table: Arc<Table>,
    id: RouteId,
}

impl Ingress {
    /// Listens on `address`; port 0 takes a free one. The server serves on the runtime of the guests
    /// until it is dropped.
    pub fn listen(address: SocketAddr, guests: &Handle) -> Result<(Self, Server), ServerError> {
        let table = Arc::new(Table::default());
        let server = Server::listen(address, table.clone(), guests)?;
        let address = server.local_address();
        Ok((Self { table, address }, server))
    }

    /// The address that is really listened on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Routes requests for these hosts to the handler, from now until the registration is dropped.
    /// Hosts that others have too are shared with them.
    pub fn register(&self, hosts: &[String], handler: Handler) -> Registration {
        let id = self.table.change(|routes| routes.add(hosts, handler));
        Registration {
            table: self.table.clone(),
            id,
        }
    }
}

impl Table {
    fn change<R>(&self, change: impl FnOnce(&mut Routes<Handler>) -> R) -> R {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routes = Routes::clone(&self.current.load());
        let result = change(&mut routes);
        self.current.store(Arc::new(routes));
        result
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.change(|routes| routes.remove(self.id));
    }
}
