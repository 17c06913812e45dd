//! The host with its real engine, images from a registry, requests over HTTP; everything on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

use berth_conformance::{guest, registry, role};

mod http;
mod stage;

mod images;
mod ingress;
mod interfaces;
mod process;
mod resources;
mod services;
