//! The process that a check runs against, and whom it shares it with.

/// Which host process a check runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIsolation {
    /// The one host of the run, together with many other checks at the same moment.
    Shared,
    /// A process of its own, launched from the target's command: it may be cut off, signalled, killed.
    Own,
    /// A host on which nothing else happens: its own process when one can be launched, else the only
    /// host there is, alone, after all other checks.
    Quiet,
}

/// On which bus, with which scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerIsolation {
    /// The one scheduler of the run, beside many other scenarios, each with a host group of its own.
    Shared,
    /// A bus and a scheduler of its own, launched for it: either may be cut off, killed, brought back.
    Own,
    /// The same, launched so that hosts are not shared between environments.
    Isolated,
    /// The same, launched so that several instances agree on who acts.
    Elected,
}
