//! The configuration of a host, and every default and limit with its reason.

use std::time::Duration;

/// The deadline over one pull, `wash host`'s own default.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(30);
/// Components with a whole language runtime inside have some 30 MB; this leaves an order of magnitude.
pub const IMAGE_BYTES_MAX: u64 = 256 << 20;
/// Room for some hundred components; an operator's disk is seldom smaller.
pub const IMAGE_CACHE_BYTES_MAX: u64 = 2 << 30;
/// More requests at once do not make one network link faster.
pub const CONCURRENT_PULLS_MAX: usize = 16;
