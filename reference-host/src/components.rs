//! The components of a workload as its requests meet them: up with fresh instances, or down.

use std::sync::{Mutex, PoisonError};

use crate::breakage::Breakage;
use crate::engine::Handler;
use crate::ingress::{Ingress, Registration};

/// What serves the requests of one workload.
pub struct Components {
    front: Option<Front>,
    up: Mutex<Option<Up>>,
}

/// The component that requests go to, and the hosts that lead to it.
pub struct Front {
    /// The door of the host.
    pub ingress: Ingress,
    /// Host names in lower case.
    pub hosts: Vec<String>,
    /// The component.
    pub handler: Handler,
}

struct Up {
    /// None once the routes have ended and only requests in flight remain.
    registration: Option<Registration>,
    handler: Handler,
}

impl Components {
    /// Components that are down; without a front they have nothing to serve.
    pub fn new(front: Option<Front>) -> Self {
        Self {
            front,
            up: Mutex::new(None),
        }
    }

    /// Makes the routes live, with no instance of an earlier time behind them.
    pub fn bring_up(&self) {
        let Some(front) = &self.front else { return };
        let handler = front.handler.renewed();
        let registration = front.ingress.register(&front.hosts, handler.clone());
        *self.lock() = Some(Up {
            registration: Some(registration),
            handler,
        });
    }

    /// Ends the routes at once, and then the requests in flight.
    ///
    /// Cancel safety: the routes have ended when the first await is reached, and another call waits for
    /// the requests that this one no longer waits for.
    pub async fn take_down(&self) {
        let (registration, handler) = match self.lock().as_mut() {
            Some(up) => (up.registration.take(), up.handler.clone()),
            None => return,
        };
        drop(registration);
        handler.end().await;
        *self.lock() = None;
    }

    /// Lets the routes stay for ever, which is what HOST-SVC-019 and HOST-HTTP-010 forbid.
    pub fn leak(&self) {
        debug_assert!(
            Breakage::RoutesOutliveStop.is_on() || Breakage::RoutesOutliveService.is_on()
        );
        std::mem::forget(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Up>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
