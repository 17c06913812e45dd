//! The connection to the brokers; the only module of this crate that uses the NATS client.

mod address;
mod attempt;
mod auth;
mod connect;
mod error;

use std::time::Duration;

use async_nats::client::{FlushErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

pub use self::error::{BusError, ConnectError};
use crate::connect::ConnectOptions;

/// A connection to the brokers; cheap to clone. It reconnects forever and renews its subscriptions.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    state: watch::Receiver<ConnectionState>,
}

/// State of the connection to the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether the connection is up, as far as is known.
    pub connected: bool,
    /// Number of times that the connection was established. Each reconnect increments it.
    pub generation: u64,
}

/// A message that arrived on a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub subject: String,
    pub reply_to: Option<String>,
    pub payload: Bytes,
}

/// The reply to a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub payload: Bytes,
    /// Value of the header `Nats-Service-Error-Code`.
    pub error_code: Option<u16>,
}

/// Reason a request has no reply.
#[derive(Debug)]
pub(crate) enum RequestError {
    NoResponders,
    Timeout,
    MessageTooLarge,
    Failed(BusError),
}

const ERROR_CODE: &str = "Nats-Service-Error-Code";
const ERROR_TEXT: &str = "Nats-Service-Error";

impl Bus {
    /// Connects once and fails if that is impossible.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, an address is invalid, or the broker is unreachable or
    /// rejects the credentials.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        connect::connect(options, connect::Retry::Never).await
    }

    /// Connects in the background and retries forever. Messages published in the meantime are
    /// queued.
    ///
    /// # Errors
    ///
    /// Fails only where a retry cannot help: if a file cannot be read or an address is invalid.
    pub async fn connect_with_retry(options: &ConnectOptions) -> Result<Self, ConnectError> {
        connect::connect(options, connect::Retry::Forever).await
    }

    /// Returns a receiver of the connection state, to read or to await a change.
    pub fn connection_state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Returns whether the connection is up, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Returns the maximum size that the broker accepts, payload and headers together.
    pub(crate) fn max_payload_bytes(&self) -> usize {
        self.client.max_payload()
    }

    /// Subscribes to `subject`. Reconnects renew the subscription.
    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscription, BusError> {
        let subscriber = self
            .client
            .subscribe(subject)
            .await
            .map_err(|_| BusError::Closed)?;
        Ok(Subscription { subscriber })
    }

    /// Queues a message for sending. Without a connection the message waits, and this call may
    /// wait, too.
    pub(crate) async fn publish(
        &self,
        subject: String,
        payload: Vec<u8>,
        error: Option<(u16, String)>,
    ) -> Result<(), BusError> {
        let published = match error {
            None => self.client.publish(subject, payload.into()).await,
            Some((code, text)) => {
                let headers = service_error_headers(code, &text);
                self.client
                    .publish_with_headers(subject, headers, payload.into())
                    .await
            }
        };
        published.map_err(BusError::from_publish)
    }

    /// Returns a new subject for replies.
    pub(crate) fn new_inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Queues a request whose replies arrive on the subscription to `reply_to`.
    pub(crate) async fn publish_request(
        &self,
        subject: &'static str,
        reply_to: String,
    ) -> Result<(), BusError> {
        let published = self
            .client
            .publish_with_reply(subject, reply_to, Bytes::new())
            .await;
        published.map_err(BusError::from_publish)
    }

    /// Waits until all queued messages are sent, at most for `timeout`.
    pub(crate) async fn flush(&self, timeout: Duration) -> Result<(), BusError> {
        match tokio::time::timeout(timeout, self.client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == FlushErrorKind::SendError => Err(BusError::Closed),
            Ok(Err(_)) | Err(_) => Err(BusError::Disconnected),
        }
    }

    /// Sends a request and waits for the first reply.
    pub(crate) async fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        if !self.is_connected() {
            return Err(RequestError::Failed(BusError::Disconnected));
        }
        let request = async_nats::Request::new()
            .payload(payload.into())
            .timeout(Some(timeout));
        // The client's own timeout begins after the request is queued, which may itself wait.
        let sent = tokio::time::timeout(timeout, self.client.send_request(subject, request)).await;
        let message =
            sent.map_err(|_| RequestError::Timeout)?
                .map_err(|error| match error.kind() {
                    RequestErrorKind::NoResponders => RequestError::NoResponders,
                    RequestErrorKind::TimedOut => RequestError::Timeout,
                    RequestErrorKind::MaxPayloadExceeded => RequestError::MessageTooLarge,
                    RequestErrorKind::InvalidSubject => {
                        RequestError::Failed(BusError::InvalidSubject)
                    }
                    RequestErrorKind::Other => RequestError::Failed(BusError::Closed),
                })?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(RequestError::NoResponders);
        }
        let code = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(ERROR_CODE));
        Ok(Reply {
            payload: message.payload,
            error_code: code.and_then(|code| code.as_str().trim().parse().ok()),
        })
    }
}

/// A subscription to one subject. Dropping it unsubscribes.
pub(crate) struct Subscription {
    subscriber: async_nats::Subscriber,
}

impl Subscription {
    /// Returns the next message, or `None` after the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        let message = self.subscriber.next().await?;
        Some(Delivery {
            subject: message.subject.as_str().to_owned(),
            reply_to: message.reply.map(|subject| subject.as_str().to_owned()),
            payload: message.payload,
        })
    }

    /// Unsubscribes. [`Subscription::next`] still returns the messages that have arrived, then
    /// `None`.
    pub async fn drain(&mut self) {
        if self.subscriber.drain().await.is_err() {
            tracing::debug!("connection closed before the subscription was drained");
        }
    }
}

fn service_error_headers(code: u16, text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static(ERROR_CODE),
        HeaderValue::from(u64::from(code)),
    );
    if let Ok(text) = text.parse::<HeaderValue>() {
        headers.insert(HeaderName::from_static(ERROR_TEXT), text);
    }
    headers
}
