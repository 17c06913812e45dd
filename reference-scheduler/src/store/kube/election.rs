//! Leader election with a Lease.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::lease::{Candidate, LeaseAction, LeaseTimings};
use crate::config::KubeStoreConfig;
use crate::fault_injection::Breakage;

/// Name of the Lease, the same as in wasmCloud's operator.
pub(super) const LEASE_NAME: &str = "d34db3ef.wasmcloud.dev";

/// Timeout for releasing the Lease at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the task of the election, and a channel that reports whether this process is the leader.
/// Without election, this process is the leader at once. When `shutdown` is cancelled, the task
/// gives up leadership, releases the Lease and closes the channel.
pub(super) fn start(
    client: &Client,
    config: &KubeStoreConfig,
    identity: &str,
    timings: LeaseTimings,
    shutdown: CancellationToken,
) -> (
    impl Future<Output = ()> + Send + 'static,
    watch::Receiver<bool>,
) {
    let uses_lease = config.leader_elect && !Breakage::IgnoresLease.is_on();
    let (sender, leadership) = watch::channel(!uses_lease);
    let mut election = Election {
        leases: Api::namespaced(client.clone(), &config.namespace),
        candidate: Candidate::new(identity.to_owned(), timings),
        started_at: Instant::now(),
    };
    let task = async move {
        tokio::select! {
            () = election.run(timings, &sender), if uses_lease => {}
            () = shutdown.cancelled() => {}
        }
        // Leadership ends here before another process can become the leader.
        if sender.send_replace(false) && uses_lease {
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, election.release()).await;
        }
    };
    (task, leadership)
}

struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    started_at: Instant,
}

impl Election {
    /// Renews the Lease, or tries to acquire it, in an endless loop.
    async fn run(&mut self, timings: LeaseTimings, is_leader: &watch::Sender<bool>) {
        // This process measures from the time before the request, and other candidates from the
        // later time at which they observe the renewal.
        let mut valid_until = Instant::now();
        loop {
            let attempt_at = Instant::now();
            // A request that hangs must not outlast the time as leader.
            let timeout = if *is_leader.borrow() {
                valid_until.saturating_duration_since(attempt_at)
            } else {
                timings.renew_deadline
            };
            match tokio::time::timeout(timeout, self.try_acquire()).await {
                Ok(Ok(true)) => {
                    valid_until = attempt_at + timings.renew_deadline;
                    set_leader(is_leader, true);
                }
                Ok(Ok(false)) => set_leader(is_leader, false),
                // Another process has written the Lease first. The next attempt reads the new
                // Lease.
                Ok(Err(error)) if error.is_conflict() => {}
                Ok(Err(error)) => tracing::warn!(%error, "cannot read or write the Lease"),
                Err(_) => tracing::warn!("cannot read or write the Lease: timed out"),
            }
            if *is_leader.borrow() && Instant::now() >= valid_until {
                set_leader(is_leader, false);
            }
            let next = attempt_at + timings.retry;
            let next = if *is_leader.borrow() {
                next.min(valid_until)
            } else {
                next
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Tries to acquire or renew the Lease, and returns whether this process holds it now.
    async fn try_acquire(&mut self) -> Result<bool, ApiError> {
        let existing = self.leases.get_opt(LEASE_NAME).await?;
        let spec = existing.as_ref().and_then(|lease| lease.spec.as_ref());
        let action = self
            .candidate
            .decide(spec, self.started_at.elapsed(), jiff::Timestamp::now());
        let parameters = PostParams::default();
        match (action, existing) {
            (LeaseAction::Wait, _) => return Ok(false),
            (LeaseAction::Create(spec) | LeaseAction::Replace(spec), Some(lease)) => {
                // The API server checks the resource version and rejects a concurrent change.
                let lease = Lease {
                    spec: Some(spec),
                    ..lease
                };
                self.leases.replace(LEASE_NAME, &parameters, &lease).await?;
            }
            (LeaseAction::Create(spec) | LeaseAction::Replace(spec), None) => {
                let metadata = ObjectMeta {
                    name: Some(LEASE_NAME.to_owned()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(spec),
                };
                self.leases.create(&parameters, &lease).await?;
            }
        }
        Ok(true)
    }

    async fn release(&self) {
        let Ok(Some(lease)) = self.leases.get_opt(LEASE_NAME).await else {
            return;
        };
        let spec = lease
            .spec
            .as_ref()
            .and_then(|spec| self.candidate.released(spec, jiff::Timestamp::now()));
        if let Some(spec) = spec {
            let lease = Lease {
                spec: Some(spec),
                ..lease
            };
            if let Err(error) = self
                .leases
                .replace(LEASE_NAME, &PostParams::default(), &lease)
                .await
            {
                tracing::debug!(%error, "cannot release the Lease; it will expire");
            }
        }
    }
}

fn set_leader(is_leader: &watch::Sender<bool>, value: bool) {
    let has_changed = is_leader.send_if_modified(|now| std::mem::replace(now, value) != value);
    if has_changed {
        tracing::info!(is_leader = value, "leadership changed");
    }
}

/// Runs `work` whenever this process becomes the leader, and drops it when leadership is lost;
/// returns at shutdown.
pub(super) async fn run_while_leader<F: Future<Output = ()>>(
    mut leadership: watch::Receiver<bool>,
    work: impl Fn() -> F,
) {
    while leadership.wait_for(|is_leader| *is_leader).await.is_ok() {
        let mut lost = leadership.clone();
        tokio::select! {
            () = work() => {}
            _ = lost.wait_for(|is_leader| !*is_leader) => {}
        }
    }
}
