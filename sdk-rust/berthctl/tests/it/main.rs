//! `berthctl` as it is called, against a host on the embedded broker: what it prints and how it exits.

mod cli;
mod support;
