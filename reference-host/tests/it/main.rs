//! Tests of the host with its engine, images from a registry, and requests over HTTP, all on
//! loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod fixture;
mod http;

mod connections;
mod drain;
mod images;
mod ingress;
mod interfaces;
mod process;
mod resources;
mod services;
mod volumes;
