//! File descriptors of the process: the limit, and its division between the parts of the host.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Limit that is assumed if the system does not tell it: the smallest one in use.
const ASSUMED_LIMIT: u64 = 256;

/// Limit that the host asks for at most. More is of no use, and some systems refuse it.
const WANTED_LIMIT: u64 = 1 << 20;

/// Descriptors that neither the ingress nor guests may take, if the limit allows: for the bus,
/// pulls, the image cache, and gRPC.
const RESERVE: u64 = 512;

/// Limit of connections to the ingress on a process that may have as many descriptors as it likes.
/// Each connection needs memory for its buffers.
const INGRESS_CONNECTIONS_MAX: u64 = 4096;

/// Limit of connections to gRPC. Each scheduler needs one.
const GRPC_CONNECTIONS_MAX: u64 = 256;

/// Number of open descriptors from which on guests may open no more. It belongs to the process, as
/// its limit does.
static GUESTS_END_AT: AtomicU64 = AtomicU64::new(u64::MAX);

/// The division of the descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// Limit of descriptors of the process.
    pub limit: u64,
    /// Connections to the ingress.
    pub ingress_connections_max: usize,
    /// Connections to gRPC.
    pub grpc_connections_max: usize,
    /// Number of open descriptors from which on guests may open no more.
    pub guests_end_at: u64,
}

impl DescriptorBudget {
    /// Divides `limit` descriptors: up to a quarter is the reserve, of which gRPC may take half,
    /// and the ingress and guests get equal parts of the rest.
    pub fn of(limit: u64) -> Self {
        let reserve = RESERVE.min(limit / 4);
        let ingress = INGRESS_CONNECTIONS_MAX.min((limit - reserve) / 2).max(1);
        let grpc = GRPC_CONNECTIONS_MAX.min(reserve / 2).max(1);
        Self {
            limit,
            ingress_connections_max: usize::try_from(ingress).unwrap_or(usize::MAX),
            grpc_connections_max: usize::try_from(grpc).unwrap_or(usize::MAX),
            guests_end_at: limit - reserve,
        }
    }
}

/// Raises the soft limit of the process to its hard limit, and returns the division of the result.
/// The soft limit is often low for the sake of programs that use `select`, which this one does not.
pub fn claim() -> DescriptorBudget {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "cannot read the limit of open files");
            return DescriptorBudget::of(ASSUMED_LIMIT);
        }
    };
    let wanted = hard.min(WANTED_LIMIT).max(soft);
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, wanted, "cannot raise the limit of open files");
            soft
        }
    };
    let budget = DescriptorBudget::of(limit);
    GUESTS_END_AT.store(budget.guests_end_at, Ordering::Relaxed);
    let ingress_connections = budget.ingress_connections_max;
    tracing::info!(
        limit,
        soft_before = soft,
        ingress_connections,
        "open files are limited"
    );
    budget
}

/// Returns whether guests may open a socket or a file. A new descriptor gets the lowest number that
/// is free, so its number tells how many are open at least.
pub fn guests_may_open() -> bool {
    let end = GUESTS_END_AT.load(Ordering::Relaxed);
    let duplicate = std::io::stderr().as_fd().try_clone_to_owned();
    duplicate.is_ok_and(|new| u64::try_from(new.as_raw_fd()).is_ok_and(|number| number < end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_leaves_descriptors_to_the_others() {
        for limit in [3, 64, 256, 1024, 4096, 1 << 20, u64::MAX] {
            let budget = DescriptorBudget::of(limit);
            let taken = budget.ingress_connections_max + budget.grpc_connections_max;
            assert!(budget.guests_end_at <= limit && budget.guests_end_at >= limit / 4 * 3);
            assert!(budget.ingress_connections_max > 0 && budget.grpc_connections_max > 0);
            assert!(limit < 8 || (taken as u64) < limit / 4 * 3, "{budget:?}");
        }
        assert_eq!(DescriptorBudget::of(256).ingress_connections_max, 96);
        assert_eq!(DescriptorBudget::of(1 << 20).ingress_connections_max, 4096);
    }
}
