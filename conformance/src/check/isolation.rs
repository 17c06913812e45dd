//! Process that a check runs against, and whether it shares that process with other checks.

/// Host process that a check runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIsolation {
    /// The shared host of the run, concurrently with other checks.
    Shared,
    /// A separate process that the suite launches for this check only: the check may disconnect,
    /// signal or kill it.
    Own,
    /// A host without any other activity: a separate process if one can be launched, otherwise the
    /// only host, after all other checks.
    Quiet,
}

/// Bus and scheduler that a check runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerIsolation {
    /// The shared scheduler of the run, concurrently with other scenarios, each with its own host
    /// group.
    Shared,
    /// A separate bus and scheduler for this check only: the check may disconnect, kill or restart
    /// them.
    Own,
    /// Like `Own`, launched so that environments do not share hosts.
    Isolated,
    /// Like `Own`, launched with leader election among several instances.
    Elected,
}
