//! What one component may see and use, as its workload says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::LocalResources;

use crate::breakage::Breakage;
use crate::egress::Egress;
use crate::volumes::Mount;

/// Memory of an instance in bytes when `memoryLimitMb` is not set. Deployed schedulers cannot set
/// it, so it must suit most workloads; never below 256 MiB (HOST-RES-002).
pub const DEFAULT_MEMORY_BYTES: usize = 512 * MIB;

/// Memory of an instance in bytes that no `memoryLimitMb` raises: what 32 bits can address.
pub const MAX_MEMORY_BYTES: usize = 4096 * MIB;

const MIB: usize = 1 << 20;

/// Everything that the instances of one component are given.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The id of the workload.
    pub workload_id: Arc<str>,
    /// The namespace of the workload.
    pub namespace: Arc<str>,
    /// The name of the component in messages and logs.
    pub component: Arc<str>,
    /// The only environment variables that exist.
    pub environment: Vec<(String, String)>,
    /// What `wasi:config` hands out.
    pub config: Arc<BTreeMap<String, String>>,
    /// The only directories that exist.
    pub mounts: Vec<Mount>,
    /// The only peers that can be reached.
    pub egress: Arc<Egress>,
    /// All linear memories of an instance together.
    pub memory_limit_bytes: usize,
}

/// The memory limit that `resources` asks for, in bytes; zero and less mean that it is not set. A
/// limit above what an instance can address at all is that much.
///
/// `cpuLimit` has no effect here: guests share the processors fairly, by time slices.
pub fn memory_limit_bytes(resources: &LocalResources) -> usize {
    if Breakage::NoMemoryLimit.is_on() {
        return MAX_MEMORY_BYTES;
    }
    match usize::try_from(resources.memory_limit_mb) {
        Err(_) | Ok(0) if Breakage::TinyDefaultMemory.is_on() => 16 * MIB,
        Err(_) | Ok(0) => DEFAULT_MEMORY_BYTES,
        Ok(megabytes) => megabytes.saturating_mul(MIB).min(MAX_MEMORY_BYTES),
    }
}

/// The variables that a guest sees, in the order of their names (HOST-RES-004).
pub fn environment(resources: &LocalResources) -> Vec<(String, String)> {
    let variables = resources.environment.iter();
    let mut environment: Vec<_> =
        variables.map(|(name, value)| (name.clone(), value.clone())).collect();
    if Breakage::LeaksHostEnvironment.is_on() {
        environment.extend(std::env::vars());
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_are_read() {
        for (megabytes, bytes) in [
            (0, DEFAULT_MEMORY_BYTES),
            (-5, DEFAULT_MEMORY_BYTES),
            (64, 64 * MIB),
            (i32::MAX, MAX_MEMORY_BYTES),
        ] {
            let resources = LocalResources { memory_limit_mb: megabytes, ..Default::default() };
            assert_eq!(memory_limit_bytes(&resources), bytes, "{megabytes}");
        }
    }
}
