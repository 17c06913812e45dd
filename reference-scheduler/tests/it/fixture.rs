//! Test fixture: a broker and a directory of manifests. Also functions that wait for conditions.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use tempfile::TempDir;

use crate::fleet::{FakeHost, Record};
use crate::scheduler::Scheduler;

/// Deadline of a test step, far longer than any step takes.
pub const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Fixture {
    pub broker: Broker,
    pub record: Record,
    directory: TempDir,
}

impl Fixture {
    pub async fn new() -> Self {
        let broker = Broker::start(BrokerOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            broker,
            record: Record::default(),
            directory,
        }
    }

    pub fn manifests(&self) -> &Path {
        self.directory.path()
    }

    pub fn host(&self, id: &str) -> FakeHost {
        FakeHost::start(&self.broker.url(), id, &self.record)
    }

    pub fn scheduler(&self) -> Scheduler {
        Scheduler::start(&self.broker.url(), self.manifests(), &[])
    }

    /// Writes a manifest file atomically.
    pub fn write_manifest(&self, file: &str, text: &str) {
        let temporary = self.manifests().join(".temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.manifests().join(file)).unwrap();
    }

    pub fn remove_manifest(&self, file: &str) {
        std::fs::remove_file(self.manifests().join(file)).unwrap();
    }

    /// Returns the status file of an object, or an empty string if it does not exist.
    pub fn status(&self, kind: &str, name: &str) -> String {
        let path = format!(".berth/default/{kind}/{name}.yaml");
        std::fs::read_to_string(self.manifests().join(path)).unwrap_or_default()
    }

    /// Waits until exactly `count` ids are running.
    pub async fn wait_for_running(&self, count: usize) {
        eventually(
            || self.record.ids().len() == count,
            || format!("{count} ids are running: {:?}", self.record.running()),
        )
        .await;
    }
}

/// Returns the manifest of a deployment.
pub fn deployment(name: &str, replicas: usize, image: &str) -> String {
    format!(
        "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\nmetadata:\n  name: {name}\nspec:\n  \
         replicas: {replicas}\n  template:\n    spec:\n      components:\n      - name: main\n        image: {image}\n"
    )
}

/// Waits until a condition is true; panics with `description` at the deadline.
pub async fn eventually(mut condition: impl FnMut() -> bool, description: impl Fn() -> String) {
    let waiting = async {
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        while !condition() {
            interval.tick().await;
        }
    };
    if tokio::time::timeout(TIMEOUT, waiting).await.is_err() {
        panic!("timed out waiting for: {}", description());
    }
}

/// Asserts that a condition stays true for `duration`.
pub async fn consistently(
    duration: Duration,
    condition: impl Fn() -> bool,
    description: impl Fn() -> String,
) {
    let until = tokio::time::Instant::now() + duration;
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    while tokio::time::Instant::now() < until {
        assert!(condition(), "no longer true: {}", description());
        interval.tick().await;
    }
}

/// Waits for a future; panics at the deadline.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future)
        .await
        .expect("finishes before the deadline")
}
