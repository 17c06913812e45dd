//! CPU and memory usage of the machine, sampled in the background so that heartbeats never wait for
//! it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sysinfo::System;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Interval between samples. The CPU usage is the average over this time.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// CPU and memory usage of the machine at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Usage of all processors together in percent.
    pub cpu_usage: f32,
    /// Total memory in bytes.
    pub memory_total_bytes: u64,
    /// Free memory in bytes.
    pub memory_free_bytes: u64,
}

/// Samples the machine until it is dropped.
pub struct Sampler {
    latest: Arc<Mutex<Sample>>,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Takes the first sample at once and then one each [`SAMPLE_INTERVAL`]. All samples are zero
    /// on a machine that cannot be sampled.
    pub fn start() -> Self {
        let mut system = System::new()
            .inspect_err(|error| tracing::warn!(%error, "cannot sample CPU and memory usage"))
            .ok();
        let latest = Arc::new(Mutex::new(sample(system.as_mut())));
        let task = tokio::spawn({
            let latest = latest.clone();
            async move {
                let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let sample = sample(system.as_mut());
                    *latest.lock().unwrap_or_else(PoisonError::into_inner) = sample;
                }
            }
        });
        Self { latest, task }
    }

    /// Returns the latest sample.
    pub fn latest(&self) -> Sample {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the memory that this process may use: that of the machine, or the limit of its cgroup if
/// that is lower. Returns 4 GiB if neither is known.
pub fn usable_memory_bytes() -> u64 {
    let Ok(mut system) = System::new() else {
        return u64::from(u32::MAX);
    };
    system.refresh_memory();
    let machine = system.total_memory();
    let cgroup = system.cgroup_limits().map(|limits| limits.total_memory);
    match cgroup.filter(|limit| *limit > 0) {
        Some(cgroup) => machine.min(cgroup),
        None => machine,
    }
}

/// Returns the machine's host name.
pub fn hostname() -> String {
    System::host_name().unwrap_or_else(|_| "localhost".into())
}

/// Returns the kernel's release.
pub fn kernel() -> String {
    System::kernel_version().unwrap_or_default()
}

fn sample(system: Option<&mut System>) -> Sample {
    let Some(system) = system else {
        return Sample::default();
    };
    system.refresh_cpu_usage();
    system.refresh_memory();
    Sample {
        cpu_usage: system.global_cpu_usage().clamp(0.0, 100.0),
        memory_total_bytes: system.total_memory(),
        memory_free_bytes: system.free_memory().min(system.total_memory()),
    }
}
