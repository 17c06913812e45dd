//! Releases the Pods of hosts before an uninstallation: without a scheduler, nobody would remove
//! their finalizer.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Resource as _};

use super::error::ApiError;
use super::write::retry_throttled;
use super::{KubeError, KubeStore, election, identity, pods};
use crate::config::KubeStoreConfig;

/// Time for which no scheduler becomes the leader: long enough to delete everything, short enough
/// that an uninstallation that was aborted does no harm.
const LEASE_DURATION_S: i32 = 120;
/// Time until the leader has noticed that it lost the Lease, which it renews every 2 s.
const LEADER_NOTICE: Duration = Duration::from_secs(5);
/// Maximum number of attempts to take the Lease, which the leader renews at the same time.
const ATTEMPTS_MAX: usize = 10;

/// Takes the Lease, so that no scheduler adds finalizers again, and removes the finalizers of the
/// Pods of hosts. Returns the number of Pods.
pub(super) async fn run(client: &Client, config: &KubeStoreConfig) -> Result<usize, KubeError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |error: ApiError| KubeError::Release {
            action,
            reason: error.to_string(),
        }
    };
    let lease = take_lease(client, config).await;
    lease.map_err(failed("take the Lease"))?;
    tokio::time::sleep(LEADER_NOTICE).await;
    let namespaces: BTreeSet<&String> = config
        .host_namespaces
        .iter()
        .chain([&config.namespace])
        .collect();
    let mut released = 0;
    for namespace in namespaces {
        let count = release_namespace(client, namespace).await;
        released += count.map_err(failed("release the Pods"))?;
    }
    Ok(released)
}

async fn take_lease(client: &Client, config: &KubeStoreConfig) -> Result<(), ApiError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &config.namespace);
    let mut last = Ok(());
    for _ in 0..ATTEMPTS_MAX {
        let now = MicroTime(jiff::Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(format!("uninstall_{}", identity())),
            lease_duration_seconds: Some(LEASE_DURATION_S),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let parameters = PostParams::default();
        let written = match retry_throttled(|| leases.get_opt(election::LEASE_NAME)).await? {
            Some(mut lease) => {
                let before = lease.spec.take().unwrap_or_default();
                let transitions = before.lease_transitions.unwrap_or(0).saturating_add(1);
                lease.spec = Some(LeaseSpec {
                    lease_transitions: Some(transitions),
                    ..spec
                });
                retry_throttled(|| leases.replace(election::LEASE_NAME, &parameters, &lease)).await
            }
            None => {
                let mut lease = Lease {
                    spec: Some(spec),
                    ..Lease::default()
                };
                lease.meta_mut().name = Some(election::LEASE_NAME.to_owned());
                retry_throttled(|| leases.create(&parameters, &lease)).await
            }
        };
        match written {
            Ok(_) => return Ok(()),
            // The leader has renewed the Lease in the meantime.
            Err(error) if error.is_conflict() => last = Err(error),
            Err(error) => return Err(error),
        }
    }
    last
}

async fn release_namespace(client: &Client, namespace: &str) -> Result<usize, ApiError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selected = ListParams::default().labels(pods::HOST_POD_LABEL);
    let mut released = 0;
    for pod in retry_throttled(|| api.list(&selected)).await?.items {
        released += usize::from(pods::remove_finalizer(&api, pod).await?);
    }
    Ok(released)
}

impl KubeStore {
    /// Releases the Pods of hosts before an uninstallation, and returns their number. Keeps all
    /// schedulers that elect a leader from working for two minutes.
    ///
    /// # Errors
    ///
    /// There is no valid configuration of a cluster, or the API server refuses a request.
    pub async fn release_pods(config: &KubeStoreConfig) -> Result<usize, KubeError> {
        let client = super::client(config).await?;
        run(&client, config).await
    }

    /// Releases the Pods of hosts with an existing client.
    /// See [`release_pods`](Self::release_pods).
    ///
    /// # Errors
    ///
    /// The API server refuses a request.
    pub async fn release_pods_with(
        client: &Client,
        config: &KubeStoreConfig,
    ) -> Result<usize, KubeError> {
        run(client, config).await
    }
}
