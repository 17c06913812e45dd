//! Deadlines of the specification. The suite's patience is added separately and never changes them.

use std::time::Duration;

use super::requirements as req;
use super::requirements::Requirement;

/// Time limit that a requirement sets.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// Time limit.
    pub limit: Duration,
    /// Requirement that sets the limit.
    pub requirement: &'static Requirement,
}

const fn deadline(limit_ms: u64, requirement: &'static Requirement) -> Deadline {
    Deadline {
        limit: Duration::from_millis(limit_ms),
        requirement,
    }
}

/// Time from any request but a start to its reply. After this time, a missing reply is final.
pub const REPLY: Deadline = deadline(5_000, &req::HOST_WIRE_016);
/// Time from a discovery request to the reply.
pub const DISCOVERY: Deadline = deadline(1_000, &req::HOST_EXT_003);
/// Time from a start to its reply.
pub const START_REPLY: Deadline = deadline(60_000, &req::HOST_START_011);
/// Time from a start that is still in progress to the reply STARTING.
pub const START_STARTING: Deadline = deadline(5_000, &req::HOST_START_012);
/// Time from a stop until the id is NOT_FOUND.
pub const STOP_NOT_FOUND: Deadline = deadline(5_000, &req::HOST_STOP_002);
/// Time from a stop until the id of the cancelled start is free.
pub const STOP_FREES_ID: Deadline = deadline(5_000, &req::HOST_STOP_005);
/// Time from a stop to the end of guest execution.
pub const STOP_GUEST_ENDS: Deadline = deadline(2_000, &req::HOST_STOP_008);
/// Time from connecting to the first heartbeat.
pub const FIRST_HEARTBEAT: Deadline = deadline(5_000, &req::HOST_BEAT_002);
/// Longest time between two heartbeats.
pub const HEARTBEAT_GAP_MAX: Deadline = deadline(30_000, &req::HOST_BEAT_003);
/// Shortest time between two heartbeats.
pub const HEARTBEAT_GAP_MIN: Deadline = deadline(1_000, &req::HOST_BEAT_004);
/// Shortest wait before a restart.
pub const RESTART_WAIT_MIN: Deadline = deadline(50, &req::HOST_SVC_010);
/// Longest wait before a restart.
pub const RESTART_WAIT_MAX: Deadline = deadline(45_000, &req::HOST_SVC_010);
/// Run time without a failure after which a service has its full restart budget again.
pub const RESTART_BUDGET_RESET: Deadline = deadline(60_000, &req::HOST_SVC_013);
/// Longest pull from a registry that hangs.
pub const PULL_TIMEOUT: Deadline = deadline(60_000, &req::HOST_IMG_007);
/// Time from the return of the broker until the host replies to commands again.
pub const RECOVERY: Deadline = deadline(10_000, &req::HOST_RESIL_001);
/// Time from a reconnect to the next heartbeat.
pub const HEARTBEAT_AFTER_RECONNECT: Deadline = deadline(2_000, &req::HOST_RESIL_002);
/// Time from each request to its reply under load.
pub const LOAD_REPLY: Deadline = deadline(5_000, &req::HOST_RESIL_008);
/// Time until the host detects that its connection broke without being closed.
pub const DEAD_CONNECTION: Deadline = deadline(180_000, &req::HOST_RESIL_010);
/// Time from a signal to the end of the command subscription.
pub const UNSUBSCRIBE: Deadline = deadline(1_000, &req::HOST_DOWN_001);
/// Time from a signal to the exit of the process.
pub const EXIT: Deadline = deadline(30_000, &req::HOST_DOWN_002);

/// Time limit of waits for which no requirement sets one.
///
/// Requirements such as "RUNNING later" set no time. This limit only keeps a run finite. It equals
/// the time within which a host must reply to a start.
pub const DEFAULT_WAIT: Deadline = START_REPLY;
