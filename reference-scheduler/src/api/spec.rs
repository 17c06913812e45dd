//! Desired state of a workload, also in templates.
//!
//! The revision hash ([`crate::revision`]) depends on the order of the fields: moving a field would
//! give every replica set of a cluster a new revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Extra;
use super::extra::{is_default, null_is_unset};

/// Desired state of a workload, with constraints on its host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// Labels that the host must have.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_selector: BTreeMap<String, String>,
    /// ID of the only allowed host; empty for any host.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_id: String,
    /// Environment that the host must have; if empty, the rules for shared hosts apply.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub environment: String,
    /// Components, which run when they are called.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub components: Vec<WorkloadComponent>,
    /// Interfaces that the host must offer.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_interfaces: Vec<HostInterface>,
    /// Service, which runs by itself for as long as the workload.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<WorkloadService>,
    /// Volumes that components can mount.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// Kubernetes resources of the workload.
    #[serde(skip_serializing_if = "is_default")]
    pub kubernetes: Option<KubernetesSpec>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A component, which runs when it is called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadComponent {
    /// Name, unique in the workload.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Secret with credentials for the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// `Always`, `IfNotPresent` or `Never`; any other value uses the default of the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub image_pull_policy: String,
    /// Number of instances to keep ready; 0 uses the default of the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub pool_size: i32,
    /// Maximum number of calls per instance; 0 uses the default of the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub max_invocations: i32,
    /// Maximum number of concurrent calls; 0 uses the default of the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub max_concurrency: i32,
    /// Resources of the host that it can use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_resources: Option<LocalResources>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The service of a workload, which runs by itself for as long as the workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadService {
    /// Image reference.
    pub image: String,
    /// Secret with credentials for the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// `Always`, `IfNotPresent` or `Never`; any other value uses the default of the host.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub image_pull_policy: String,
    /// Maximum number of consecutive restarts. Zero is written, too, as in wasmCloud's operator,
    /// because the revision depends on the field.
    #[serde(default, deserialize_with = "null_is_unset")]
    pub max_restarts: i32,
    /// Resources of the host that it can use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub local_resources: Option<LocalResources>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Resources of the host that a component can use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalResources {
    /// Volume mounts.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Environment variables.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: Option<ConfigLayer>,
    /// Configuration.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config: BTreeMap<String, String>,
    /// Allow-list of destinations of connections; empty allows none.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_hosts: Vec<String>,
    /// Allow-list of names for DNS lookups; empty allows none.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_ip_name_lookups: Vec<String>,
    /// Allow-list of loopback ports of the host; empty allows none.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub allowed_host_loopback_ports: Vec<String>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Keys and values from three sources; later sources take precedence: `config`, `configFrom`,
/// `secretFrom`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigLayer {
    /// ConfigMaps; later ones take precedence.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config_from: Vec<LocalReference>,
    /// Secrets; later ones take precedence.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub secret_from: Vec<LocalReference>,
    /// Literal values.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub config: BTreeMap<String, String>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Interfaces of one WIT package that the host must offer, and their configuration.
// `ConfigLayer` is not flattened here, because its `extra` would capture the other fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostInterface {
    /// ConfigMaps; later ones take precedence.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub config_from: Vec<LocalReference>,
    /// Secrets; later ones take precedence.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub secret_from: Vec<LocalReference>,
    /// Literal values.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub config: BTreeMap<String, String>,
    /// Name that distinguishes several entries of the same package; may be empty.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub name: String,
    /// Namespace of the package, such as `wasi`.
    pub namespace: String,
    /// Name of the package, such as `http`.
    pub package: String,
    /// Interfaces of the package, such as `incoming-handler`.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub interfaces: Vec<String>,
    /// Version of the package; empty for any version.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub version: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A volume. It is ephemeral if both types or none are set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name, unique in the workload.
    pub name: String,
    /// Ephemeral volume.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ephemeral: Option<EphemeralVolume>,
    /// Directory of the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_path: Option<HostPathVolume>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A volume that is initially empty and is deleted with the workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EphemeralVolume {
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A directory of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPathVolume {
    /// Path on the host.
    pub path: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Mount of a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Path in the component.
    pub mount_path: String,
    /// Whether the mount is read-only.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub read_only: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Kubernetes resources of a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesSpec {
    /// Service that routes to the workload.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<KubernetesService>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Service that routes to a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesService {
    /// Name of the Service, in the namespace of the workload.
    pub name: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Reference to an object in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalReference {
    /// Name of the object.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub name: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadSpec {
    /// Returns a copy without unknown fields.
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
