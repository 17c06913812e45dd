//! What is to run, in a workload and in the template of a replica set.
//!
//! The order of the fields is that of the revision hash ([`crate::revision`]): moving one moves
//! every replica set of a cluster to a new revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Extra;
use super::extra::{is_default, null_is_unset};

/// What is to run, and where it may.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// Labels that a host must have.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_selector: BTreeMap<String, String>,
    /// The one host that may run it; empty for any.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_id: String,
    /// The environment that a host must serve; empty for what the rules for shared hosts allow.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub environment: String,
    /// Components that are called.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub components: Vec<WorkloadComponent>,
    /// Interfaces that the host must offer.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_interfaces: Vec<HostInterface>,
    /// The component that runs for as long as the workload does.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<WorkloadService>,
    /// Volumes that components mount by name.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// What Kubernetes does about it.
    #[serde(skip_serializing_if = "is_default")]
    pub kubernetes: Option<KubernetesSpec>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A component that is called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadComponent {
    /// Its name in the workload.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The Secret to pull it with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// `Always`, `IfNotPresent`, `Never`; anything else leaves it to the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub image_pull_policy: String,
    /// Instances kept ready; 0 leaves it to the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub pool_size: i32,
    /// Calls that an instance serves; 0 leaves it to the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub max_invocations: i32,
    /// Calls served at once; 0 leaves it to the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub max_concurrency: i32,
    /// What it gets of its host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_resources: Option<LocalResources>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The component that runs for as long as the workload does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadService {
    /// Its image.
    pub image: String,
    /// The Secret to pull it with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// `Always`, `IfNotPresent`, `Never`; anything else leaves it to the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub image_pull_policy: String,
    /// How often it may be started again in a row. Upstream writes it even when it is zero, and so
    /// it counts towards the revision.
    #[serde(default, deserialize_with = "null_is_unset")]
    pub max_restarts: i32,
    /// What it gets of its host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_resources: Option<LocalResources>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a component gets of its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalResources {
    /// Volumes and where they appear.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Environment variables.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: Option<ConfigLayer>,
    /// Configuration.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config: BTreeMap<String, String>,
    /// Where it may connect to; empty for nowhere.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_hosts: Vec<String>,
    /// Names that it may resolve; empty for none.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_ip_name_lookups: Vec<String>,
    /// Ports of the host's loopback that it may connect to; empty for none.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_host_loopback_ports: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Keys and values from three places; the later place wins: `config`, `configFrom`, `secretFrom`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigLayer {
    /// ConfigMaps, the later one wins.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config_from: Vec<LocalReference>,
    /// Secrets, the later one wins.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub secret_from: Vec<LocalReference>,
    /// Values in place.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Interfaces of one WIT package that the host must offer, and their configuration.
// The layer of configuration is spelled out, not flattened: its `extra` would swallow these fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostInterface {
    /// ConfigMaps, the later one wins.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub config_from: Vec<LocalReference>,
    /// Secrets, the later one wins.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub secret_from: Vec<LocalReference>,
    /// Values in place.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub config: BTreeMap<String, String>,
    /// Tells several of the same package apart; empty for the one without a name.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub name: String,
    /// Namespace of the package: `wasi`.
    pub namespace: String,
    /// The package: `http`.
    pub package: String,
    /// Its interfaces: `incoming-handler`.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub interfaces: Vec<String>,
    /// The version of the package; empty for any.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub version: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A volume. With both types set it is ephemeral; with neither as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name in the workload.
    pub name: String,
    /// Empty at first and gone with the workload.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ephemeral: Option<EphemeralVolume>,
    /// A directory of the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_path: Option<HostPathVolume>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A volume that is empty at first and gone with the workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EphemeralVolume {
    /// Everything there is.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A directory of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPathVolume {
    /// Its path on the host.
    pub path: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a volume appears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The volume.
    pub name: String,
    /// Where the component sees it.
    pub mount_path: String,
    /// Whether it may only be read.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub read_only: bool,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What Kubernetes does about a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesSpec {
    /// The Service that leads to it.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<KubernetesService>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The Service that leads to a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesService {
    /// Its name, in the namespace of the workload.
    pub name: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An object of the same namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalReference {
    /// Its name.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub name: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadSpec {
    /// The same without the fields that are not known here.
    #[must_use]
    pub fn without_extra(&self) -> Self {
        let mut spec = self.clone();
        spec.extra = Extra::default();
        for component in &mut spec.components {
            component.extra = Extra::default();
            strip_reference(&mut component.image_pull_secret);
            strip_resources(&mut component.local_resources);
        }
        for interface in &mut spec.host_interfaces {
            interface.extra = Extra::default();
            strip_references(&mut interface.config_from);
            strip_references(&mut interface.secret_from);
        }
        if let Some(service) = &mut spec.service {
            service.extra = Extra::default();
            strip_reference(&mut service.image_pull_secret);
            strip_resources(&mut service.local_resources);
        }
        for volume in &mut spec.volumes {
            volume.extra = Extra::default();
            volume
                .ephemeral
                .iter_mut()
                .for_each(|ephemeral| ephemeral.extra = Extra::default());
            volume
                .host_path
                .iter_mut()
                .for_each(|path| path.extra = Extra::default());
        }
        if let Some(kubernetes) = &mut spec.kubernetes {
            kubernetes.extra = Extra::default();
            kubernetes
                .service
                .iter_mut()
                .for_each(|service| service.extra = Extra::default());
        }
        spec
    }
}

fn strip_resources(resources: &mut Option<LocalResources>) {
    let Some(resources) = resources else { return };
    resources.extra = Extra::default();
    resources
        .volume_mounts
        .iter_mut()
        .for_each(|mount| mount.extra = Extra::default());
    if let Some(layer) = &mut resources.environment {
        layer.extra = Extra::default();
        strip_references(&mut layer.config_from);
        strip_references(&mut layer.secret_from);
    }
}

fn strip_reference(reference: &mut Option<LocalReference>) {
    reference
        .iter_mut()
        .for_each(|reference| reference.extra = Extra::default());
}

fn strip_references(references: &mut [LocalReference]) {
    references
        .iter_mut()
        .for_each(|reference| reference.extra = Extra::default());
}
