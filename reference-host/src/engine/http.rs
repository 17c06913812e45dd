//! Hands HTTP requests to a component, each to a fresh instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::PoolConcurrencyLimitError;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::first_line;
use super::guest::{Guest, GuestFactory};
use crate::breakage::Breakage;

/// The body of a guest's answer.
pub type Body = HyperOutgoingBody;

/// How long a handler may take to begin its answer (HOST-HTTP-016).
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a handler may run altogether, its answer's body included.
const MAX_HANDLER_RUN: Duration = Duration::from_secs(600);

/// Requests that one component handles at one moment, so that it cannot use up the instances of all.
const MAX_CONCURRENT_REQUESTS: usize = (super::settings::MAX_INSTANCES / 2) as usize;

/// Answers requests with instances of one component; a cheap clone.
#[derive(Clone)]
pub struct Handler {
    shared: Arc<Shared>,
}

struct Shared {
    pre: ProxyPre<Guest>,
    factory: GuestFactory,
    in_flight: AtomicUsize,
    ended: CancellationToken,
    tasks: TaskTracker,
}

/// Why there is no answer of the guest's own.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The guest trapped, answered with an error, or ended without an answer.
    #[error("the guest failed: {0}")]
    Guest(String),
    /// It did not begin to answer within [`HANDLER_TIMEOUT`].
    #[error("the guest did not answer in time")]
    Timeout,
    /// It was stopped meanwhile.
    #[error("the workload was stopped")]
    Ended,
    /// Too many requests are in flight.
    #[error("too many requests are in flight")]
    Busy,
}

impl Handler {
    pub(super) fn new(pre: ProxyPre<Guest>, factory: GuestFactory) -> Self {
        let shared = Shared {
            pre,
            factory,
            in_flight: AtomicUsize::new(0),
            ended: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A handler with the same component and none of this one's requests.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self::new(self.shared.pre.clone(), self.shared.factory.clone())
    }

    /// Lets a fresh instance answer the request.
    ///
    /// Cancel safety: dropping the future before the answer begins ends the guest.
    pub async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, HandlerError> {
        let in_flight = InFlight::enter(&self.shared)?;
        let (sender, receiver) = oneshot::channel();
        let call = call(self.shared.clone(), request, sender);
        let ended = self.shared.ended.clone();
        let task = self.shared.tasks.spawn(async move {
            let _in_flight = in_flight;
            ended.run_until_cancelled_owned(call).await
        });
        let mut abort = AbortOnDrop(Some(task));
        match tokio::time::timeout(HANDLER_TIMEOUT, receiver).await {
            Ok(Ok(Ok(response))) => {
                abort.disarm();
                Ok(response)
            }
            Ok(Ok(Err(code))) => Err(HandlerError::Guest(format!("it answered {code:?}"))),
            Ok(Err(_)) => {
                let error = abort.outcome().await;
                if Breakage::TrapEndsWorkload.is_on() {
                    self.shared.ended.cancel();
                }
                Err(error)
            }
            Err(_) => Err(HandlerError::Timeout),
        }
    }

    /// Ends the requests in flight and lets no more in. Returns when no instance is left.
    pub async fn end(&self) {
        self.shared.ended.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

type Answer = Result<Response<Body>, ErrorCode>;
type CallOutcome = Result<(), HandlerError>;

async fn call(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    answer: oneshot::Sender<Answer>,
) -> CallOutcome {
    let call = async {
        let mut store = shared.factory.store()?;
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Http, request)?;
        let answer = store.data_mut().http().new_response_outparam(answer)?;
        let proxy = shared.pre.instantiate_async(&mut store).await?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, answer)
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
                "a handler failed"
            );
            Err(HandlerError::Guest(first_line(&error)))
        }
        Err(_) => Err(HandlerError::Timeout),
    }
}

struct AbortOnDrop(Option<tokio::task::JoinHandle<Option<CallOutcome>>>);

impl AbortOnDrop {
    fn disarm(&mut self) {
        self.0 = None;
    }

    /// How the call ended that gave no answer.
    async fn outcome(&mut self) -> HandlerError {
        let Some(task) = self.0.as_mut() else {
            return HandlerError::Ended;
        };
        match task.await {
            Ok(Some(Err(error))) => error,
            Ok(Some(Ok(()))) => HandlerError::Guest("it ended without an answer".into()),
            Ok(None) => HandlerError::Ended,
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
}

impl InFlight {
    fn enter(shared: &Arc<Shared>) -> Result<Self, HandlerError> {
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let entered = Self {
            shared: shared.clone(),
        };
        if in_flight >= MAX_CONCURRENT_REQUESTS {
            return Err(HandlerError::Busy);
        }
        if shared.ended.is_cancelled() {
            return Err(HandlerError::Ended);
        }
        Ok(entered)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
