//! The HTTP endpoint of a workload: closed, open with fresh instances, or suspended.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Handler;
use crate::fault_injection::Breakage;
use crate::ingress::{Ingress, Registration};

/// Time for the requests in flight when a workload is stopped, within the 2 s of HOST-STOP-008.
pub const DRAIN_TIME: Duration = Duration::from_millis(1500);

/// The HTTP endpoint of one workload.
pub struct HttpEndpoint {
    route: Option<HttpRoute>,
    active: Mutex<Option<Active>>,
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

struct Active {
    /// `None` after the route was removed, while requests are still in flight.
    registration: Option<Registration>,
    handler: Handler,
}

impl HttpEndpoint {
    /// Creates a closed endpoint. Without a route it has nothing to serve.
    pub fn new(route: Option<HttpRoute>) -> Self {
        Self {
            route,
            active: Mutex::new(None),
        }
    }

    /// Serves requests, with a handler that reuses no instance from before.
    pub fn open(&self) {
        let Some(route) = &self.route else { return };
        let handler = route.handler.fresh();
        let mut active = self.lock();
        let registration = active.take().and_then(|active| active.registration);
        let registration = match registration {
            None => route.ingress.register(&route.host_names, handler.clone()),
            Some(registration) => {
                registration.replace(Some(&handler));
                registration
            }
        };
        *active = Some(Active {
            registration: Some(registration),
            handler,
        });
    }

    /// Refuses further requests with 503 until the endpoint is opened or closed, and ends those in
    /// flight after `drain`.
    ///
    /// Cancel safety: requests are refused before the first await. If the future is dropped, the
    /// requests in flight continue, and another call ends them.
    pub async fn suspend(&self, drain: Duration) {
        let handler = match self.lock().as_ref() {
            Some(active) => {
                if let Some(registration) = &active.registration {
                    registration.replace(None);
                }
                active.handler.clone()
            }
            None => return,
        };
        // Only a restart of the service suspends the endpoint without a drain.
        if drain.is_zero() && Breakage::ComponentsSurviveRestart.is_on() {
            return;
        }
        handler.drain(drain).await;
        handler.stop().await;
    }

    /// Removes the route at once, and ends the requests in flight after `drain`.
    ///
    /// Cancel safety: the route is removed before the first await. If the future is dropped,
    /// another call waits for the remaining requests.
    pub async fn close(&self, drain: Duration) {
        let (registration, handler) = match self.lock().as_mut() {
            Some(active) => (active.registration.take(), active.handler.clone()),
            None => return,
        };
        drop(registration);
        handler.drain(drain).await;
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
