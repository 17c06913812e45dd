//! The environment of a target: broker, registry, tap, beacons, guests and processes.

pub mod beacon;
pub mod broker;
pub mod clock;
pub mod fixture;
pub mod guest;
pub mod images;
pub mod playground;
pub mod process;
pub mod program;
pub mod registry;
pub mod secrets;
pub mod tap;
mod tcp_server;
