//! A broker, a directory of manifests, and ways to wait.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use tempfile::TempDir;

use crate::fleet::{FakeHost, Record};
use crate::scheduler::Scheduler;

/// Patience of a test: far more than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub broker: Broker,
    pub record: Record,
    folder: TempDir,
}

impl Stage {
    pub async fn set() -> Self {
        let broker = Broker::start(BrokerOptions::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            broker,
            record: Record::default(),
            folder,
        }
    }

    pub fn manifests(&self) -> &Path {
        self.folder.path()
    }

    pub fn host(&self, id: &str) -> FakeHost {
        FakeHost::start(&self.broker.url(), id, &self.record)
    }

    pub fn scheduler(&self) -> Scheduler {
        Scheduler::start(&self.broker.url(), self.manifests(), &[])
    }

    /// Puts a manifest into the directory, or another in its place.
    pub fn put(&self, file: &str, text: &str) {
        let scratch = self.manifests().join(".scratch");
        std::fs::write(&scratch, text).unwrap();
        std::fs::rename(scratch, self.manifests().join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.manifests().join(file)).unwrap();
    }

    /// What the scheduler has written of an object; empty when there is none.
    pub fn status(&self, kind: &str, name: &str) -> String {
        let path = format!(".berth/default/{kind}/{name}.yaml");
        std::fs::read_to_string(self.manifests().join(path)).unwrap_or_default()
    }

    /// Waits until this many ids run, and no more.
    pub async fn runs(&self, count: usize) {
        eventually(
            || self.record.ids().len() == count,
            || format!("{count} ids run: {:?}", self.record.running()),
        )
        .await;
    }
}

/// The manifest of a deployment.
pub fn deployment(name: &str, replicas: usize, image: &str) -> String {
    format!(
        "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\nmetadata:\n  name: {name}\nspec:\n  \
         replicas: {replicas}\n  template:\n    spec:\n      components:\n      - name: main\n        image: {image}\n"
    )
}

/// Waits for a condition, and says what was waited for when it does not come true.
pub async fn eventually(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !holds() {
            looks.tick().await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("never so: {}", what());
    }
}

/// Sees that a condition holds all the time.
pub async fn consistently(span: Duration, holds: impl Fn() -> bool, what: impl Fn() -> String) {
    let until = tokio::time::Instant::now() + span;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while tokio::time::Instant::now() < until {
        assert!(holds(), "no longer so: {}", what());
        looks.tick().await;
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("done in time")
}
