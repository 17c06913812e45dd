//! Feeds the monitors: from the tap of a host that was launched, else from what the suite itself hears.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::host::monitors::Watch;
use crate::testbed::tap;
use crate::wire::nats;
use crate::wire::nats::{Bus, Delivery, Overheard};
use crate::wire::response::Headers;
use crate::wire::trace::{Direction, Frame};

/// Hands every frame of a tap to the monitors, until the tap is gone.
pub async fn feed(mut frames: broadcast::Receiver<Arc<tap::Frame>>, watch: Watch) {
    loop {
        match frames.recv().await {
            Ok(frame) => translate(&frame, &watch),
            // The tap's own record still has them; monitors lose a few frames of a flood.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn translate(frame: &tap::Frame, watch: &Watch) {
    let way = match (frame.kind, frame.way) {
        (tap::Kind::Opened, _) => Direction::Connected,
        (tap::Kind::Closed, _) => Direction::Disconnected,
        (tap::Kind::Publish, _) => Direction::FromHost,
        (tap::Kind::Message, _) => Direction::ToHost,
        _ => return,
    };
    let arrived = match (way, frame.fate) {
        // What the suite kept from the host is not the host's to answer; what the host sent, it sent.
        (Direction::ToHost, tap::Fate::Dropped | tap::Fate::CutBefore | tap::Fate::Overflowed) => 0,
        (Direction::ToHost, tap::Fate::Duplicated) => 2,
        _ => 1,
    };
    for _ in 0..arrived {
        watch.frame(Frame {
            at: frame.at,
            way,
            subject: frame
                .subject
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            reply: frame.reply.as_ref().map(ToString::to_string),
            headers: headers(frame),
            payload: frame.payload.clone(),
            payload_bytes: frame.payload_bytes,
        });
    }
}

fn headers(frame: &tap::Frame) -> Headers {
    Headers(
        frame
            .parsed_headers()
            .map(|headers| headers.fields)
            .unwrap_or_default(),
    )
}

/// Hands what the suite itself says to and hears from a host to the monitors, until the bus is gone.
///
/// Subscribes before it returns, so that nothing said afterwards is missed.
pub fn overhear(bus: &Bus, host_id: &str, watch: Watch) -> impl Future<Output = ()> + use<> {
    let mut traffic = bus.overhear();
    let commands = nats::command_subject(host_id, "");
    let heartbeats = nats::heartbeat_subject(host_id);
    let inboxes = format!("{}.", bus.inboxes());
    async move {
        loop {
            let (way, message) = match traffic.recv().await {
                Ok(Overheard::Sent(message)) => (Direction::ToHost, message),
                // The broker's own word is nothing that the host said.
                Ok(Overheard::ReceivedCommand(message)) if message.status.is_none() => {
                    (Direction::FromHost, message)
                }
                Ok(Overheard::ReceivedCommand(_)) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let concerns = match way {
                Direction::ToHost => message.subject.starts_with(&commands),
                _ => message.subject == heartbeats || message.subject.starts_with(&inboxes),
            };
            if concerns {
                watch.frame(frame(way, message));
            }
        }
    }
}

fn frame(way: Direction, message: Delivery) -> Frame {
    Frame {
        at: message.at,
        way,
        subject: message.subject,
        reply: message.reply,
        headers: message.headers,
        payload_bytes: message.payload.len(),
        payload: message.payload,
    }
}
