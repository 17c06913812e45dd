//! Publishes Kubernetes Events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;

use super::error;
use super::{FIELD_MANAGER, REQUEST_TIMEOUT};
use crate::api::API_VERSION;
use crate::core::{ObjectEvent, ObjectEventKind};

/// Maximum number of Events in flight: few, because Events are the least important writes.
const CONCURRENCY: usize = 4;

/// Maximum length of the instance of an Event.
const INSTANCE_BYTES_MAX: usize = 128;

/// Maximum length of the note of an Event.
const NOTE_BYTES_MAX: usize = 1024;

/// Publishes Events. Equal Events within a few minutes become one Event with a count.
pub(super) struct EventPublisher {
    recorder: Recorder,
    permits: Semaphore,
}

impl EventPublisher {
    pub(super) fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(truncate(identity, INSTANCE_BYTES_MAX)),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            permits: Semaphore::new(CONCURRENCY),
        }
    }

    /// Publishes an Event. Best effort: failures are only logged.
    pub(super) async fn publish(&self, event: ObjectEvent) {
        let regarding = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(event.key.kind.as_str().to_owned()),
            namespace: Some(event.key.namespace.to_string()),
            name: Some(event.key.name.to_string()),
            uid: Some(event.uid).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let kind = match event.kind {
            ObjectEventKind::Normal => EventType::Normal,
            ObjectEventKind::Warning => EventType::Warning,
        };
        let event = (kind, event.reason, event.message);
        self.publish_about(&regarding, event).await;
    }

    /// Publishes an Event about any object, by type, reason and message. Best effort: failures are
    /// only logged.
    pub(super) async fn publish_about(
        &self,
        regarding: &ObjectReference,
        (kind, reason, message): (EventType, &str, String),
    ) {
        let kube_event = Event {
            type_: kind,
            reason: reason.to_owned(),
            action: reason.to_owned(),
            note: Some(truncate(message, NOTE_BYTES_MAX)),
            secondary: None,
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return;
        };
        let published = self.recorder.publish(&kube_event, regarding);
        if let Err(error) = error::with_timeout(REQUEST_TIMEOUT, published).await {
            let object = regarding.name.as_deref().unwrap_or_default();
            tracing::debug!(object, reason, %error, "cannot publish Event");
        }
    }
}

/// Cuts `text` to at most `limit_bytes` at a character boundary.
fn truncate(mut text: String, limit_bytes: usize) -> String {
    if text.len() > limit_bytes {
        let end = (0..=limit_bytes)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_at_character_boundary() {
        assert_eq!(truncate("aé".to_owned(), 2), "a");
        assert_eq!(truncate("aé".to_owned(), 3), "aé");
        assert_eq!(truncate("abc".to_owned(), 0), "");
    }
}
