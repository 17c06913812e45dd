//! The two sides of the protocol: hosts and schedulers.

use crate::spec::requirements::{self, Profile, Requirement};

/// Side that a requirement, a check or a run concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Hosts: `HOST-…`.
    #[default]
    Host,
    /// Schedulers: `SCHED-…`.
    Scheduler,
}

impl Side {
    /// Both sides.
    pub const ALL: [Side; 2] = [Side::Host, Side::Scheduler];

    /// Returns the side that a requirement binds.
    pub fn of(requirement: &Requirement) -> Side {
        if requirement.id.starts_with("SCHED-") {
            Side::Scheduler
        } else {
            Side::Host
        }
    }

    /// Returns the name of the subcommand that judges this side.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Host => "host",
            Side::Scheduler => "scheduler",
        }
    }

    /// Returns the requirements of this side, in the order of the index.
    pub fn requirements(self) -> impl Iterator<Item = &'static Requirement> {
        let all = match self {
            Side::Host => requirements::ALL,
            Side::Scheduler => requirements::SCHEDULER,
        };
        all.iter().copied()
    }

    /// Returns the profiles that a target of this side can claim.
    pub fn profiles(self) -> Vec<Profile> {
        match self {
            Side::Host => Profile::ALL.to_vec(),
            Side::Scheduler => Profile::SCHEDULER.to_vec(),
        }
    }
}
