//! The two ways of a connection: what is read, how it is recorded, how it is passed on.

use berth_broker::frame::{ClientOp, ClientParser, FrameError, Limits, ServerOp, ServerParser};
use bytes::{Bytes, BytesMut};

use super::frame::{Direction, Frame};

/// One way of a connection.
pub(super) trait Dialect: Send + 'static {
    const WAY: Direction;
    type Op: Clone + Send;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Self::Op>, FrameError>;
    fn wanted_bytes(&self) -> usize;
    fn frame(connection: u64, op: &Self::Op) -> Frame;
    fn encode(op: &Self::Op, output: &mut BytesMut);
    fn rewrite(op: Self::Op, make: &dyn Fn(&Bytes) -> Bytes) -> Self::Op;
    /// What has to be changed in any case before it is passed on.
    fn adjust(op: Self::Op) -> Self::Op;
}

/// The tap is no judge: its limits are those of the widest broker, for both ways.
const LIMITS: Limits = Limits::of_servers();

/// From the target to the bus.
pub(super) struct FromTarget(ClientParser);

impl FromTarget {
    pub(super) const fn new() -> Self {
        Self(ClientParser::new(LIMITS))
    }
}

impl Dialect for FromTarget {
    const WAY: Direction = Direction::FromTarget;
    type Op = ClientOp;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<ClientOp>, FrameError> {
        self.0.next(input)
    }

    fn wanted_bytes(&self) -> usize {
        self.0.wanted_bytes()
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

impl Dialect for ToTarget {
    const WAY: Direction = Direction::ToTarget;
    type Op = ServerOp;

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<ServerOp>, FrameError> {
        self.0.next(input)
    }

    fn wanted_bytes(&self) -> usize {
        self.0.wanted_bytes()
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

/// INFO without the addresses on which a client could go round the tap.
fn without_other_servers(json: Bytes) -> Bytes {
    let Ok(mut info) = serde_json::from_slice::<serde_json::Value>(&json) else {
        return json;
    };
    let fields = info.as_object_mut();
    // Of an INFO without such addresses not one byte is changed.
    match fields.and_then(|fields| fields.shift_remove("connect_urls")) {
        Some(_) => info.to_string().into(),
        None => json,
    }
}
