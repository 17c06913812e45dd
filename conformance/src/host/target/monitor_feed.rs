//! Feeds the monitors: from the tap of a launched host, or from the suite's own traffic on the bus.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::host::monitors::MonitorSet;
use crate::testbed::tap;
use crate::wire::nats;
use crate::wire::nats::{Bus, Delivery, Traffic};
use crate::wire::response::Headers;
use crate::wire::trace::{Direction, Frame};

/// Passes every frame of a tap to the monitors, until the tap closes.
pub async fn feed_from_tap(mut frames: broadcast::Receiver<Arc<tap::Frame>>, monitors: MonitorSet) {
    loop {
        match frames.recv().await {
            Ok(frame) => observe(&frame, &monitors),
            // Only the monitors miss frames of a burst; the recording of the tap contains them.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn observe(frame: &tap::Frame, monitors: &MonitorSet) {
    let direction = match (frame.kind, frame.direction) {
        (tap::FrameKind::Opened, _) => Direction::Connected,
        (tap::FrameKind::Closed, _) => Direction::Disconnected,
        (tap::FrameKind::Publish, _) => Direction::FromHost,
        (tap::FrameKind::Message, _) => Direction::ToHost,
        _ => return,
    };
    let deliveries = match (direction, frame.disposition) {
        // The host need not reply to a request that the tap dropped. Frames from the host are
        // judged even if the tap dropped them.
        (
            Direction::ToHost,
            tap::Disposition::Dropped
            | tap::Disposition::DisconnectBefore
            | tap::Disposition::Overflowed,
        ) => 0,
        (Direction::ToHost, tap::Disposition::Duplicated) => 2,
        _ => 1,
    };
    for _ in 0..deliveries {
        monitors.observe(Frame {
            at: frame.at,
            direction,
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

/// Passes the messages between the suite and a host to the monitors, until the bus closes.
///
/// Subscribes before it returns, so that no later message is missed.
pub fn feed_from_bus(
    bus: &Bus,
    host_id: &str,
    monitors: MonitorSet,
) -> impl Future<Output = ()> + use<> {
    let mut traffic = bus.traffic();
    let commands = nats::command_subject(host_id, "");
    let heartbeats = nats::heartbeat_subject(host_id);
    let inboxes = format!("{}.", bus.inbox_prefix());
    async move {
        loop {
            let (direction, message) = match traffic.recv().await {
                Ok(Traffic::Sent(message)) => (Direction::ToHost, message),
                // The host did not send a status message of the broker.
                Ok(Traffic::Received(message)) if message.status.is_none() => {
                    (Direction::FromHost, message)
                }
                Ok(Traffic::Received(_)) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let is_relevant = match direction {
                Direction::ToHost => message.subject.starts_with(&commands),
                _ => message.subject == heartbeats || message.subject.starts_with(&inboxes),
            };
            if is_relevant {
                monitors.observe(frame(direction, message));
            }
        }
    }
}

fn frame(direction: Direction, message: Delivery) -> Frame {
    Frame {
        at: message.at,
        direction,
        subject: message.subject,
        reply: message.reply,
        headers: message.headers,
        payload_bytes: message.payload.len(),
        payload: message.payload,
    }
}
