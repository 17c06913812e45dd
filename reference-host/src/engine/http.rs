//! Handles HTTP requests with a component, each in a fresh instance.

mod response_body;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::PoolConcurrencyLimitError;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use self::response_body::tie_guest;
use super::first_line;
use super::guest::{Guest, GuestFactory, RequestContext};
use super::patience::{MAX_HANDLER_RUN, Patience, PatientBody};
use crate::fault_injection::Breakage;

/// Body of a guest's response.
pub type Body = HyperOutgoingBody;

/// Time limit until a response begins (HOST-HTTP-016), from the arrival of the last part of the
/// request's body that the guest has read. A guest that waits longer for an outgoing request of its
/// own, by a timeout that it sets, has until that timeout.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);

/// Limit of concurrent requests of one component, so that it cannot use up the instances of the
/// host.
const MAX_CONCURRENT_REQUESTS: usize = (super::settings::MAX_REQUESTS / 2) as usize;

/// Handles requests with instances of one component. Clones are cheap.
#[derive(Clone)]
pub struct Handler {
    shared: Arc<Shared>,
}

struct Shared {
    pre: ProxyPre<Guest>,
    factory: GuestFactory,
    /// Requests in flight in the whole host.
    permits: Arc<Semaphore>,
    in_flight: AtomicUsize,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

/// Reason why the guest returned no response.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The guest trapped, returned an error, or ended without a response.
    #[error("the guest failed: {0}")]
    Guest(String),
    /// The guest did not begin its response within [`HANDLER_TIMEOUT`].
    #[error("the guest did not respond in time")]
    Timeout,
    /// The workload was stopped.
    #[error("the workload was stopped")]
    Stopped,
    /// Too many requests are in flight.
    #[error("the component has too many requests in flight")]
    Busy,
}

impl Handler {
    pub(super) fn new(
        pre: ProxyPre<Guest>,
        factory: GuestFactory,
        permits: Arc<Semaphore>,
    ) -> Self {
        let shared = Shared {
            pre,
            factory,
            permits,
            in_flight: AtomicUsize::new(0),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns a handler for the same component that is not stopped and has no requests in flight.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let Shared {
            pre,
            factory,
            permits,
            ..
        } = &*self.shared;
        Self::new(pre.clone(), factory.clone(), permits.clone())
    }

    /// Handles the request in a fresh instance.
    ///
    /// Cancel safety: dropping the future before the response begins, or the body of the response
    /// before its end, ends the guest.
    pub async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
        let in_flight = InFlight::enter(&self.shared)?;
        let (sender, receiver) = oneshot::channel();
        let method = request.method().clone();
        let context = RequestContext {
            patience: Patience::new(HANDLER_TIMEOUT),
            out_of_memory: Arc::default(),
        };
        let call = call(self.shared.clone(), request, sender, context.clone());
        let stopped = self.shared.stopped.clone();
        let task = self.shared.tasks.spawn(async move {
            let _in_flight = in_flight;
            stopped.run_until_cancelled_owned(call).await
        });
        let abort_guest = task.abort_handle();
        let mut abort = AbortOnDrop(Some(task));
        let response = tokio::select! {
            response = receiver => response,
            () = context.patience.exhausted() => return Err(HandlerError::Timeout),
        };
        let result = match response {
            Ok(Ok(response)) => {
                abort.disarm();
                Ok(tie_guest(response, &method, abort_guest))
            }
            Ok(Err(code)) => Err(HandlerError::Guest(format!("it returned {code:?}"))),
            Err(_) => {
                let error = abort.call_error().await;
                if Breakage::TrapEndsWorkload.is_on() {
                    self.shared.stopped.cancel();
                }
                Err(error)
            }
        };
        result.map_err(|error| match error {
            // The guest failed because the host had no memory for it.
            HandlerError::Guest(_) if context.out_of_memory.load(Ordering::Relaxed) => {
                HandlerError::Busy
            }
            error => error,
        })
    }

    /// Waits until no request is in flight, up to `limit`. Its caller has removed the route, so
    /// that hardly any further one arrives.
    pub async fn drain(&self, limit: Duration) {
        self.shared.tasks.close();
        let _ = tokio::time::timeout(limit, self.shared.tasks.wait()).await;
    }

    /// Ends the requests in flight and refuses further ones. Returns when no instance is left.
    pub async fn stop(&self) {
        self.shared.stopped.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

type ResponseResult = Result<Response<Body>, ErrorCode>;
type CallResult = Result<(), HandlerError>;

async fn call(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    responder: oneshot::Sender<ResponseResult>,
    context: RequestContext,
) -> CallResult {
    let call = async {
        let mut store = shared.factory.store(Some(context.clone()))?;
        let request = request.map(|body| PatientBody::new(body, context.patience, HANDLER_TIMEOUT));
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(responder)?;
        let proxy = shared.pre.instantiate_async(&mut store).await?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, out)
            .await
    };
    match tokio::time::timeout(MAX_HANDLER_RUN, call).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() => Err(HandlerError::Busy),
        Ok(Err(error)) => {
            let sandbox = shared.factory.sandbox();
            let (workload, component) = (&sandbox.workload_id, &sandbox.component);
            tracing::warn!(
                ?workload,
                ?component,
                error = first_line(&error),
                "HTTP handler failed"
            );
            Err(HandlerError::Guest(first_line(&error)))
        }
        Err(_) => Err(HandlerError::Timeout),
    }
}

struct AbortOnDrop(Option<tokio::task::JoinHandle<Option<CallResult>>>);

impl AbortOnDrop {
    fn disarm(&mut self) {
        self.0 = None;
    }

    /// Waits for a call that sent no response, and returns the reason.
    async fn call_error(&mut self) -> HandlerError {
        let Some(task) = self.0.as_mut() else {
            return HandlerError::Stopped;
        };
        match task.await {
            Ok(Some(Err(error))) => error,
            Ok(Some(Ok(()))) => HandlerError::Guest("it ended without a response".into()),
            Ok(None) => HandlerError::Stopped,
            Err(_) => HandlerError::Guest("its task failed".into()),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

struct InFlight {
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    fn enter(shared: &Arc<Shared>) -> Result<Self, HandlerError> {
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let entered = Self {
            shared: shared.clone(),
            permit: shared.permits.clone().try_acquire_owned().ok(),
        };
        if in_flight >= MAX_CONCURRENT_REQUESTS || entered.permit.is_none() {
            return Err(HandlerError::Busy);
        }
        if shared.stopped.is_cancelled() {
            return Err(HandlerError::Stopped);
        }
        Ok(entered)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
