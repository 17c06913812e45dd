//! The HTTP endpoint of a workload: open, with a route in the ingress and fresh instances, or
//! closed.

use std::sync::{Mutex, PoisonError};

use crate::engine::Handler;
use crate::fault_injection::Breakage;
use crate::ingress::{Ingress, Registration};

/// The HTTP endpoint of one workload.
pub struct HttpEndpoint {
    route: Option<HttpRoute>,
    open: Mutex<Option<Open>>,
}

/// The route of a workload: its HTTP host names, and the component that handles their requests.
pub struct HttpRoute {
    /// HTTP ingress of the host.
    pub ingress: Ingress,
    /// Host names in lower case.
    pub host_names: Vec<String>,
    /// Handler of the component.
    pub handler: Handler,
}

struct Open {
    /// `None` after the route was removed, while requests are still in flight.
    registration: Option<Registration>,
    handler: Handler,
}

impl HttpEndpoint {
    /// Creates a closed endpoint. Without a route it has nothing to serve.
    pub fn new(route: Option<HttpRoute>) -> Self {
        Self {
            route,
            open: Mutex::new(None),
        }
    }

    /// Registers the route, with a handler that reuses no instance from before the last close.
    pub fn open(&self) {
        let Some(route) = &self.route else { return };
        let handler = route.handler.fresh();
        let registration = route.ingress.register(&route.host_names, handler.clone());
        *self.lock() = Some(Open {
            registration: Some(registration),
            handler,
        });
    }

    /// Removes the route at once, and then ends the requests in flight.
    ///
    /// Cancel safety: the route is removed before the first await. If the future is dropped,
    /// another call waits for the remaining requests.
    pub async fn close(&self) {
        let (registration, handler) = match self.lock().as_mut() {
            Some(open) => (open.registration.take(), open.handler.clone()),
            None => return,
        };
        drop(registration);
        handler.stop().await;
        *self.lock() = None;
    }

    /// Injected fault: leaks the route, which HOST-SVC-019 and HOST-HTTP-010 forbid.
    pub fn leak(&self) {
        debug_assert!(
            Breakage::RoutesOutliveStop.is_on() || Breakage::RoutesOutliveService.is_on()
        );
        std::mem::forget(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
