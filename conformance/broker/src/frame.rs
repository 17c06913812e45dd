//! Incremental, zero-copy codec of the NATS client protocol, for both directions.
//!
//! A parser reads a growing [`BytesMut`](bytes::BytesMut) and returns one operation at a time; the
//! operation shares the memory of the buffer. Both parsers enforce [`Limits`]: they never buffer
//! more than one line and one body.
//!
//! ```
//! use berth_broker::frame::{ClientOp, ClientParser, Limits};
//! use bytes::BytesMut;
//!
//! let mut parser = ClientParser::new(Limits::for_clients());
//! let mut input = BytesMut::from("PUB greet 2\r\nhi\r\nPI");
//! assert!(matches!(parser.next(&mut input), Ok(Some(ClientOp::Publish(_)))));
//! assert_eq!(parser.next(&mut input), Ok(None));
//! ```

mod body;
mod client_op;
mod error;
mod headers;
mod line;
mod parser;
mod server_op;
mod text;

pub use client_op::{ClientOp, ClientParser, Publish};
pub use error::FrameError;
pub use headers::Headers;
pub use line::Limits;
pub use parser::Parser;
pub(crate) use server_op::put_message;
pub use server_op::{Message, ServerOp, ServerParser};
pub use text::Text;
