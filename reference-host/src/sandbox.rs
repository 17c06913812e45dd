//! The resources of one component, as its workload declares them.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::LocalResources;

use crate::config::{Limits, MEMORY_BYTES_MAX};
use crate::egress::Egress;
use crate::fault_injection::Breakage;
use crate::volumes::Mount;

/// Everything that the instances of one component may use.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// ID of the workload.
    pub workload_id: Arc<str>,
    /// Namespace of the workload.
    pub namespace: Arc<str>,
    /// Name of the component in messages and logs.
    pub component: Arc<str>,
    /// Environment variables; no others exist.
    pub environment: Vec<(String, String)>,
    /// Values of `wasi:config`.
    pub config: Arc<BTreeMap<String, String>>,
    /// Mounted directories; no others exist.
    pub mounts: Vec<Mount>,
    /// Destinations that the guest may reach; all others are denied.
    pub egress: Arc<Egress>,
    /// Limit of all linear memories of an instance together.
    pub memory_limit_bytes: usize,
}

/// Returns the memory limit of `resources` in bytes. Zero and negative values mean that it is not
/// set (HOST-RES-001, HOST-RES-002). The result is at most what an instance can address.
///
/// `cpuLimit` has no effect: guests share the processors by time slices, so a guest that never
/// yields does not block the others.
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

/// Returns the guest's environment variables, sorted by name (HOST-RES-004).
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
    fn memory_limit_has_default_and_maximum() {
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
