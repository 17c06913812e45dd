//! Encodings and clients of the protocol, independent of any SDK.

pub mod base64;
pub mod grpc;
pub mod json_judge;
pub mod nats;
pub mod protobuf;
pub mod response;
pub mod timestamp;
pub mod trace;
pub mod vectors;
