//! Stands for election over a Lease, and says at any time whether this process is the one that acts.

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

use super::error::Failure;
use super::lease::{Candidate, LeaseTimings, Step};
use crate::breakage::Breakage;
use crate::config::KubeChoice;

/// The Lease that upstream's operator uses.
const LEASE: &str = "d34db3ef.wasmcloud.dev";

/// How long letting go may take when this process ends.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What has to run for it, and what it says; without election, this process acts at once. After
/// `end`, it acts no longer, lets go of the Lease, and the channel ends.
pub(super) fn stand(
    client: &Client,
    choice: &KubeChoice,
    identity: &str,
    timings: LeaseTimings,
    end: CancellationToken,
) -> (
    impl Future<Output = ()> + Send + 'static,
    watch::Receiver<bool>,
) {
    let is_elected = choice.leader_elect && !Breakage::IgnoresTheLease.is_on();
    let (sender, receiver) = watch::channel(!is_elected);
    let mut election = Election {
        leases: Api::namespaced(client.clone(), &choice.namespace),
        candidate: Candidate::new(identity.to_owned(), timings),
        began: Instant::now(),
    };
    let task = async move {
        tokio::select! {
            () = election.run(timings, &sender), if is_elected => {}
            () = end.cancelled() => {}
        }
        // Acting ends before anybody else can begin.
        if sender.send_replace(false) && is_elected {
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, election.release()).await;
        }
    };
    (task, receiver)
}

struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    began: Instant,
}

impl Election {
    /// Renews, or looks whether there is something to take over, for ever.
    async fn run(&mut self, timings: LeaseTimings, leading: &watch::Sender<bool>) {
        // Counted from before the request: others count from when they see it done.
        let mut good_until = Instant::now();
        loop {
            let asked = Instant::now();
            // A request that hangs must not outlast what this process may act for.
            let patience = match *leading.borrow() {
                true => good_until.saturating_duration_since(asked),
                false => timings.renew_deadline,
            };
            match tokio::time::timeout(patience, self.attempt()).await {
                Ok(Ok(true)) => {
                    good_until = asked + timings.renew_deadline;
                    set(leading, true);
                }
                Ok(Ok(false)) => set(leading, false),
                // Somebody else wrote it in that moment: what it says now is seen next time.
                Ok(Err(failure)) if failure.is_conflict() => {}
                Ok(Err(failure)) => tracing::warn!(%failure, "the Lease cannot be read or written"),
                Err(_) => tracing::warn!("the API server does not answer about the Lease"),
            }
            if *leading.borrow() && Instant::now() >= good_until {
                set(leading, false);
            }
            let next = asked + timings.retry;
            let next = if *leading.borrow() {
                next.min(good_until)
            } else {
                next
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Whether this process holds the Lease now.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        let found = self.leases.get_opt(LEASE).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let step = self
            .candidate
            .step(spec, self.began.elapsed(), jiff::Timestamp::now());
        let parameters = PostParams::default();
        match (step, found) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create(spec) | Step::Replace(spec), Some(lease)) => {
                // The resource version in it makes the server refuse when somebody was quicker.
                let lease = Lease {
                    spec: Some(spec),
                    ..lease
                };
                self.leases.replace(LEASE, &parameters, &lease).await?;
            }
            (Step::Create(spec) | Step::Replace(spec), None) => {
                let metadata = ObjectMeta {
                    name: Some(LEASE.to_owned()),
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
        let Ok(Some(lease)) = self.leases.get_opt(LEASE).await else {
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
                .replace(LEASE, &PostParams::default(), &lease)
                .await
            {
                tracing::debug!(%error, "the Lease is left to expire");
            }
        }
    }
}

fn set(leading: &watch::Sender<bool>, value: bool) {
    let has_changed = leading.send_if_modified(|now| std::mem::replace(now, value) != value);
    if has_changed {
        tracing::info!(acts = value, "leadership has changed");
    }
}

/// Runs `work` while this process acts, from the beginning each time; returns when the election is
/// over.
pub(super) async fn while_leading<F: Future<Output = ()>>(
    mut leading: watch::Receiver<bool>,
    work: impl Fn() -> F,
) {
    while leading.wait_for(|leads| *leads).await.is_ok() {
        let mut lost = leading.clone();
        tokio::select! {
            () = work() => {}
            _ = lost.wait_for(|leads| !*leads) => {}
        }
    }
}
