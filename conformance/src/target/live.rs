//! A host that is up: its id, its traffic, and its process when the suite launched it.

use crate::{process::Process, tap::Tap, trace::Trace};

/// One host under test.
#[derive(Debug)]
pub struct LiveHost {
    /// The id in its subjects.
    pub id: String,
    /// `ADDRESS:PORT` of its HTTP ingress.
    pub http_addr: Option<String>,
    /// Everything that was on the wire between it and the broker.
    pub trace: Trace,
    /// Its process, when the suite launched it.
    pub process: Option<Process>,
    /// What sits between it and the broker, when the suite launched it.
    pub tap: Option<Tap>,
}
