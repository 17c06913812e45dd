//! The generated messages and their serde implementations.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::indexing_slicing)]

include!("gen/wasmcloud.runtime.v2.rs");
include!("gen/wasmcloud.runtime.v2.serde.rs");

/// The schema itself: an encoded `google.protobuf.FileDescriptorSet` with everything it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
