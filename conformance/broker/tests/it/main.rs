//! The broker over real sockets, beside a real nats-server; and the properties of its codec.

mod behaviour;
mod frame;
mod lifecycle;
mod server;
mod wire;
