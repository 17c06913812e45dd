//! What people should hear of, as Kubernetes Events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;

use super::error;
use super::{FIELD_MANAGER, REQUEST_TIMEOUT};
use crate::api::API_VERSION;
use crate::core::{Note, NoteKind};

/// How many Events are written together. They are the least important of all writes.
const TOGETHER: usize = 4;

/// The longest note that the API server takes, in bytes.
const NOTE_BYTES: usize = 1024;

/// Writes Events; equal ones within some minutes are counted up in one.
pub(super) struct Notes {
    recorder: Recorder,
    slots: Semaphore,
}

impl Notes {
    pub(super) fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(short(identity, 128)),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            slots: Semaphore::new(TOGETHER),
        }
    }

    /// Best effort: one that cannot be written is logged and forgotten.
    pub(super) async fn publish(&self, note: Note) {
        let regarding = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(note.key.kind.as_str().to_owned()),
            namespace: Some(note.key.namespace.to_string()),
            name: Some(note.key.name.to_string()),
            uid: Some(note.uid).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: match note.kind {
                NoteKind::Normal => EventType::Normal,
                NoteKind::Warning => EventType::Warning,
            },
            reason: note.reason.to_owned(),
            action: note.reason.to_owned(),
            note: Some(short(note.message, NOTE_BYTES)),
            secondary: None,
        };
        let Ok(_slot) = self.slots.acquire().await else {
            return;
        };
        if let Err(failure) =
            error::within(REQUEST_TIMEOUT, self.recorder.publish(&event, &regarding)).await
        {
            tracing::debug!(object = %note.key, reason = note.reason, %failure, "an Event was not written");
        }
    }
}

/// The longest beginning of `text` that fits.
fn short(mut text: String, limit_bytes: usize) -> String {
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
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(short("aé".to_owned(), 2), "a");
        assert_eq!(short("aé".to_owned(), 3), "aé");
        assert_eq!(short("abc".to_owned(), 0), "");
    }
}
