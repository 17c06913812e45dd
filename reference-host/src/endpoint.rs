//! The HTTP endpoint of a workload: open with routes and fresh instances, or closed.

use std::sync::{Mutex, PoisonError};

use crate::engine::Handler;
use crate::fault_injection::Breakage;
use crate::ingress::{Ingress, Registration};

/// The HTTP endpoint of one workload.
pub struct Endpoint {
    front: Option<HttpFront>,
    open: Mutex<Option<Open>>,
}

/// The component that handles a workload's requests, and the host names that lead to it.
pub struct HttpFront {
    /// HTTP ingress of the host.
    pub ingress: Ingress,
    /// Host names in lower case.
    pub hosts: Vec<String>,
    /// Handler of the component.
    pub handler: Handler,
}

struct Open {
    /// `None` after the routes have ended, while requests are still in flight.
    registration: Option<Registration>,
    handler: Handler,
}

impl Endpoint {
    /// Creates a closed endpoint. Without a front it has nothing to serve.
    pub fn new(front: Option<HttpFront>) -> Self {
        Self {
            front,
            open: Mutex::new(None),
        }
    }

    /// Registers the routes, with a handler that has no instance from before.
    pub fn open(&self) {
        let Some(front) = &self.front else { return };
        let handler = front.handler.fresh();
        let registration = front.ingress.register(&front.hosts, handler.clone());
        *self.lock() = Some(Open {
            registration: Some(registration),
            handler,
        });
    }

    /// Ends the routes at once, and then the requests in flight.
    ///
    /// Cancel safety: the routes have ended before the first await. If the future is dropped,
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

    /// Leaks the routes, which HOST-SVC-019 and HOST-HTTP-010 forbid.
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
