//! What one component may see and use, as its workload says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::LocalResources;

use crate::breakage::Breakage;
use crate::config::{Limits, MEMORY_BYTES_MAX};
use crate::egress::Egress;
use crate::volumes::Mount;

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

/// The memory limit that `resources` asks for, in bytes; zero and less mean that it is not set
/// (HOST-RES-001, HOST-RES-002). A limit above what an instance can address at all is that much.
///
/// `cpuLimit` has no effect here: guests share the processors by time slices, and one that never
/// yields holds up nobody.
pub fn memory_limit_bytes(resources: &LocalResources, limits: &Limits) -> usize {
    if Breakage::NoMemoryLimit.is_on() {
        return MEMORY_BYTES_MAX as usize;
    }
    let bytes = match u64::try_from(resources.memory_limit_mb) {
        Err(_) | Ok(0) if Breakage::TinyDefaultMemory.is_on() => 16 << 20,
        Err(_) | Ok(0) => limits.memory_default_bytes,
        Ok(megabytes) => megabytes << 20,
    };
    usize::try_from(bytes.min(MEMORY_BYTES_MAX)).unwrap_or(usize::MAX)
}

/// The variables that a guest sees, in the order of their names (HOST-RES-004).
pub fn environment(resources: &LocalResources) -> Vec<(String, String)> {
    let variables = resources.environment.iter();
    let mut environment: Vec<_> = variables
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
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
        let limits = Limits {
            memory_default_bytes: 300 << 20,
            ..Limits::default()
        };
        for (megabytes, bytes) in [
            (0, 300 << 20),
            (-5, 300 << 20),
            (64, 64 << 20),
            (i32::MAX, 1 << 32),
        ] {
            let resources = LocalResources {
                memory_limit_mb: megabytes,
                ..Default::default()
            };
            assert_eq!(
                memory_limit_bytes(&resources, &limits),
                bytes,
                "{megabytes}"
            );
        }
    }
}
