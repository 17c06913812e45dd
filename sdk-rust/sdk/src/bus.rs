//! The bus: the one place in this crate that knows how NATS is spoken.

mod address;
mod auth;
mod error;
mod open;

use std::time::Duration;

use async_nats::client::{FlushErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

pub use self::error::{BusError, ConnectError};
use crate::connect::ConnectOptions;

/// A connection to the brokers; a cheap clone. It reconnects for ever by itself, and what was
/// subscribed is subscribed again.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    link: watch::Receiver<Link>,
}

/// How the connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether there is a connection now, as far as is known.
    pub connected: bool,
    /// How often a connection was made. It grows with each reconnect.
    pub connects: u64,
}

/// What arrived on a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub subject: String,
    pub reply: Option<String>,
    pub payload: Bytes,
}

/// What was answered to a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub payload: Bytes,
    /// `Nats-Service-Error-Code`.
    pub error_code: Option<u16>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    NoResponders,
    Timeout,
    TooLarge,
    Failed(BusError),
}

const ERROR_CODE: &str = "Nats-Service-Error-Code";
const ERROR_TEXT: &str = "Nats-Service-Error";

impl Bus {
    /// Connects now, or says why it cannot.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an address that is none, a broker that is away or refuses us.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        open::open(options, open::Patience::Now).await
    }

    /// Connects in the background and goes on trying for ever. What is published meanwhile waits.
    ///
    /// # Errors
    ///
    /// Only what no waiting can mend: a file that cannot be read, an address that is none.
    pub async fn connect_eventually(options: &ConnectOptions) -> Result<Self, ConnectError> {
        open::open(options, open::Patience::ForEver).await
    }

    /// How the connection stands, to look at or to wait on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Whether there is a connection at this moment, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The longest message that the broker takes, payload and headers together.
    pub(crate) fn max_payload_bytes(&self) -> usize {
        self.client.max_payload()
    }

    /// Receives what is published on `subject` from now on, also after reconnects.
    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscription, BusError> {
        let subscriber = self
            .client
            .subscribe(subject)
            .await
            .map_err(|_| BusError::Closed)?;
        Ok(Subscription { subscriber })
    }

    /// Hands a message to the connection. While there is none it waits in line, and so may this call.
    pub(crate) async fn publish(
        &self,
        subject: String,
        payload: Vec<u8>,
        error: Option<(u16, String)>,
    ) -> Result<(), BusError> {
        let published = match error {
            None => self.client.publish(subject, payload.into()).await,
            Some((code, text)) => {
                let headers = service_error(code, &text);
                self.client
                    .publish_with_headers(subject, headers, payload.into())
                    .await
            }
        };
        published.map_err(BusError::of_publish)
    }

    /// Waits until everything handed to the connection is on its way. Gives up after `patience`.
    pub(crate) async fn flush(&self, patience: Duration) -> Result<(), BusError> {
        match tokio::time::timeout(patience, self.client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == FlushErrorKind::SendError => Err(BusError::Closed),
            Ok(Err(_)) | Err(_) => Err(BusError::Disconnected),
        }
    }

    /// Asks and waits for the first answer.
    pub(crate) async fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, NoAnswer> {
        if !self.is_connected() {
            return Err(NoAnswer::Failed(BusError::Disconnected));
        }
        let request = async_nats::Request::new()
            .payload(payload.into())
            .timeout(Some(timeout));
        // The library's own timeout begins when the request is handed over, which may itself wait.
        let asked = tokio::time::timeout(timeout, self.client.send_request(subject, request)).await;
        let message =
            asked
                .map_err(|_| NoAnswer::Timeout)?
                .map_err(|error| match error.kind() {
                    RequestErrorKind::NoResponders => NoAnswer::NoResponders,
                    RequestErrorKind::TimedOut => NoAnswer::Timeout,
                    RequestErrorKind::MaxPayloadExceeded => NoAnswer::TooLarge,
                    RequestErrorKind::InvalidSubject => NoAnswer::Failed(BusError::Subject),
                    RequestErrorKind::Other => NoAnswer::Failed(BusError::Closed),
                })?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(NoAnswer::NoResponders);
        }
        let code = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(ERROR_CODE));
        Ok(Answer {
            payload: message.payload,
            error_code: code.and_then(|code| code.as_str().trim().parse().ok()),
        })
    }
}

/// What is delivered on one subject. Dropping it ends it.
pub(crate) struct Subscription {
    subscriber: async_nats::Subscriber,
}

impl Subscription {
    /// The next message; `None` when the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        let message = self.subscriber.next().await?;
        Some(Delivery {
            subject: message.subject.as_str().to_owned(),
            reply: message.reply.map(|reply| reply.as_str().to_owned()),
            payload: message.payload,
        })
    }

    /// Ends the delivery of new messages; [`Subscription::next`] still hands out what has arrived, and
    /// then `None`.
    pub async fn drain(&mut self) {
        if self.subscriber.drain().await.is_err() {
            tracing::debug!("the connection was closed before the subscription");
        }
    }
}

fn service_error(code: u16, text: &str) -> HeaderMap {
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
