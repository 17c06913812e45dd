//! The deadlines of the specification. They are never loosened: patience is added apart from them.

use std::time::Duration;

use super::requirements as req;
use super::requirements::Requirement;

/// A time that a requirement sets.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// How long the host has.
    pub limit: Duration,
    /// Which requirement says so.
    pub from: &'static Requirement,
}

const fn deadline(limit_ms: u64, from: &'static Requirement) -> Deadline {
    Deadline {
        limit: Duration::from_millis(limit_ms),
        from,
    }
}

/// Any request is answered by then, so longer silence is no reply at all.
pub const ANSWER: Deadline = deadline(5_000, &req::HOST_WIRE_016);
/// A start is answered.
pub const START_ANSWER: Deadline = deadline(60_000, &req::HOST_START_011);
/// A start that is still at work is answered with STARTING.
pub const START_STARTING: Deadline = deadline(5_000, &req::HOST_START_012);
/// A stopped id is NOT_FOUND.
pub const STOP_GONE: Deadline = deadline(5_000, &req::HOST_STOP_002);
/// The id of a cancelled start is free.
pub const STOP_CANCELS: Deadline = deadline(5_000, &req::HOST_STOP_005);
/// Guest execution has ended after a stop.
pub const STOP_GUEST_ENDS: Deadline = deadline(2_000, &req::HOST_STOP_008);
/// The first heartbeat after connecting.
pub const FIRST_HEARTBEAT: Deadline = deadline(5_000, &req::HOST_BEAT_002);
/// The longest time between two heartbeats.
pub const HEARTBEAT_GAP: Deadline = deadline(30_000, &req::HOST_BEAT_003);
/// The shortest time between two heartbeats.
pub const HEARTBEAT_APART: Deadline = deadline(1_000, &req::HOST_BEAT_004);
/// The shortest wait before a restart.
pub const RESTART_WAIT_MIN: Deadline = deadline(50, &req::HOST_SVC_010);
/// The longest wait before a restart.
pub const RESTART_WAIT_MAX: Deadline = deadline(45_000, &req::HOST_SVC_010);
/// Health after which a service has its whole restart budget again.
pub const RESTART_BUDGET_RESET: Deadline = deadline(60_000, &req::HOST_SVC_013);
/// A pull from a registry that hangs is given up.
pub const PULL_BOUND: Deadline = deadline(60_000, &req::HOST_IMG_007);
/// Commands are answered again after the broker is back.
pub const RECOVERY: Deadline = deadline(10_000, &req::HOST_RESIL_001);
/// A heartbeat after reconnecting.
pub const HEARTBEAT_AFTER_RECONNECT: Deadline = deadline(2_000, &req::HOST_RESIL_002);
/// Every request of a load is answered.
pub const LOAD_ANSWER: Deadline = deadline(5_000, &req::HOST_RESIL_008);
/// A connection that died without being closed is noticed.
pub const DEAD_CONNECTION: Deadline = deadline(180_000, &req::HOST_RESIL_010);
/// The command subscription ends after a signal.
pub const UNSUBSCRIBE: Deadline = deadline(1_000, &req::HOST_DOWN_001);
/// The process exits after a signal.
pub const EXIT: Deadline = deadline(30_000, &req::HOST_DOWN_002);

/// For waits whose time no requirement sets: how long the suite looks before it says no.
///
/// Requirements such as "RUNNING later" name no time; the bound here only keeps a run finite, and is
/// the time within which a start must be answered in any case.
pub const LOOK: Deadline = START_ANSWER;
