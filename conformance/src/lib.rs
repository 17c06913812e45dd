//! Judges any host that speaks the wasmCloud v2 host-control protocol, over NATS and from outside.

pub mod answer;
pub mod beacon;
pub mod bench;
pub mod bus;
pub mod check;
pub mod checks;
pub mod clock;
pub mod cx;
pub mod deadline;
pub mod guest;
pub mod model;
pub mod outcome;
pub mod process;
pub mod registry;
pub mod requirements;
pub mod role;
pub mod schema;
pub mod tap;
pub mod target;
pub mod trace;
