//! The two directions of a connection: how frames are parsed, recorded and forwarded.

use berth_broker::frame::{ClientOp, ClientParser, FrameError, Limits, ServerOp, ServerParser};
use bytes::{Bytes, BytesMut};

use super::frame::{Direction, Frame};

/// One direction of a connection.
pub(super) trait DirectionCodec: Send + 'static {
    const DIRECTION: Direction;
    type Op: Clone + Send;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Self::Op>, FrameError>;
    fn required_bytes(&self) -> usize;
    fn frame(connection: u64, op: &Self::Op) -> Frame;
    fn encode(op: &Self::Op, output: &mut BytesMut);
    fn rewrite(op: Self::Op, make: &dyn Fn(&Bytes) -> Bytes) -> Self::Op;
    /// Applies the changes that every frame of this direction needs.
    fn adjust(op: Self::Op) -> Self::Op;
}

/// The tap does not judge: it allows what the most permissive broker allows, in both directions.
const LIMITS: Limits = Limits::for_servers();

/// From the target to the bus.
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

    fn rewrite(op: ClientOp, make: &dyn Fn(&Bytes) -> Bytes) -> ClientOp {
        match op {
            ClientOp::Publish(mut publish) => {
                publish.payload = make(&publish.payload);
                ClientOp::Publish(publish)
            }
            other => other,
        }
    }

    fn adjust(op: ClientOp) -> ClientOp {
        op
    }
}

/// From the bus to the target.
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

    fn rewrite(op: ServerOp, make: &dyn Fn(&Bytes) -> Bytes) -> ServerOp {
        match op {
            ServerOp::Message(mut message) => {
                message.payload = make(&message.payload);
                ServerOp::Message(message)
            }
            other => other,
        }
    }

    fn adjust(op: ServerOp) -> ServerOp {
        match op {
            ServerOp::Info(json) => ServerOp::Info(without_other_servers(json)),
            other => other,
        }
    }
}

/// Removes the addresses through which a client could bypass the tap from an INFO.
fn without_other_servers(json: Bytes) -> Bytes {
    let Ok(mut info) = serde_json::from_slice::<serde_json::Value>(&json) else {
        return json;
    };
    let fields = info.as_object_mut();
    // An INFO without such addresses is forwarded byte for byte.
    match fields.and_then(|fields| fields.shift_remove("connect_urls")) {
        Some(_) => info.to_string().into(),
        None => json,
    }
}
