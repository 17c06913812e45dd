//! Parsing, recording and encoding of frames, for each of the two directions of a connection.

use berth_broker::frame::{ClientOp, ClientParser, FrameError, Limits, ServerOp, ServerParser};
use bytes::{Bytes, BytesMut};

use super::frame::{Direction, Frame};

/// Codec for the frames of one direction of a connection.
pub(super) trait DirectionCodec: Send + 'static {
    const DIRECTION: Direction;
    type Op: Clone + Send;

    /// Removes the next operation from `input` and returns it, or `None` until it is complete.
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Self::Op>, FrameError>;
    /// Returns the length that the input must have before `next` can return an operation.
    fn required_bytes(&self) -> usize;
    /// Returns the frame that the recording contains for an operation.
    fn frame(connection: u64, op: &Self::Op) -> Frame;
    /// Appends the operation in wire format.
    fn encode(op: &Self::Op, output: &mut BytesMut);
    /// Replaces the payload of a message by the result of `new_payload`. Other operations are
    /// returned unchanged.
    fn map_payload(op: Self::Op, new_payload: &dyn Fn(&Bytes) -> Bytes) -> Self::Op;
    /// Removes from an INFO the addresses through which the target could bypass the tap, and
    /// replaces the maximum payload by `max_payload` unless that is 0.
    fn rewrite_info(op: Self::Op, max_payload: usize) -> Self::Op;
}

/// Limits of the most permissive broker, in both directions, because the tap enforces no size
/// limits of its own.
const LIMITS: Limits = Limits::for_servers();

/// Codec for frames from the target to the bus.
pub(super) struct FromTarget(ClientParser);

impl FromTarget {
    pub(super) const fn new() -> Self {
        Self(ClientParser::new(LIMITS))
    }
}

impl DirectionCodec for FromTarget {
    const DIRECTION: Direction = Direction::FromTarget;
    type Op = ClientOp;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<ClientOp>, FrameError> {
        self.0.next(input)
    }

    fn required_bytes(&self) -> usize {
        self.0.required_bytes()
    }

    fn frame(connection: u64, op: &ClientOp) -> Frame {
        Frame::of_client(connection, op)
    }

    fn encode(op: &ClientOp, output: &mut BytesMut) {
        op.encode(output);
    }

    fn map_payload(op: ClientOp, new_payload: &dyn Fn(&Bytes) -> Bytes) -> ClientOp {
        match op {
            ClientOp::Publish(mut publish) => {
                publish.payload = new_payload(&publish.payload);
                ClientOp::Publish(publish)
            }
            other => other,
        }
    }

    fn rewrite_info(op: ClientOp, _max_payload: usize) -> ClientOp {
        op
    }
}

/// Codec for frames from the bus to the target.
pub(super) struct ToTarget(ServerParser);

impl ToTarget {
    pub(super) const fn new() -> Self {
        Self(ServerParser::new(LIMITS))
    }
}

impl DirectionCodec for ToTarget {
    const DIRECTION: Direction = Direction::ToTarget;
    type Op = ServerOp;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<ServerOp>, FrameError> {
        self.0.next(input)
    }

    fn required_bytes(&self) -> usize {
        self.0.required_bytes()
    }

    fn frame(connection: u64, op: &ServerOp) -> Frame {
        Frame::of_server(connection, op)
    }

    fn encode(op: &ServerOp, output: &mut BytesMut) {
        op.encode(output);
    }

    fn map_payload(op: ServerOp, new_payload: &dyn Fn(&Bytes) -> Bytes) -> ServerOp {
        match op {
            ServerOp::Message(mut message) => {
                message.payload = new_payload(&message.payload);
                ServerOp::Message(message)
            }
            other => other,
        }
    }

    fn rewrite_info(op: ServerOp, max_payload: usize) -> ServerOp {
        match op {
            ServerOp::Info(json) => ServerOp::Info(rewritten_info(json, max_payload)),
            other => other,
        }
    }
}

/// Removes from an INFO the addresses through which a client could bypass the tap, and replaces the
/// maximum payload by `max_payload` unless that is 0.
fn rewritten_info(json: Bytes, max_payload: usize) -> Bytes {
    let Ok(mut info) = serde_json::from_slice::<serde_json::Value>(&json) else {
        return json;
    };
    let Some(fields) = info.as_object_mut() else {
        return json;
    };
    let mut is_changed = fields.shift_remove("connect_urls").is_some();
    if max_payload > 0 {
        fields.insert("max_payload".to_owned(), max_payload.into());
        is_changed = true;
    }
    // An INFO without a change is forwarded byte for byte.
    if is_changed {
        info.to_string().into()
    } else {
        json
    }
}
