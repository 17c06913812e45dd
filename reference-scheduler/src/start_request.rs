//! Builds the request that starts a workload.
//!
//! This module has no I/O: the caller reads the ConfigMaps and Secrets that [`references`] names.
//! The same workload, id and data always result in the same request, so that a repeated start has
//! the same content.

mod pull_secret;

use std::collections::{BTreeMap, BTreeSet};

use berth_proto as wire;

use crate::api::{
    ConfigLayer, HostInterface, LocalReference, LocalResources, Volume, Workload,
    WorkloadComponent, WorkloadService, WorkloadSpec,
};
use crate::store::Secret;

/// Prefixes of the annotations of kubectl and of this scheduler, which are not sent to hosts. The
/// annotations of this scheduler change while a workload exists, which would change a repeated
/// start.
const PRIVATE_ANNOTATION_PREFIXES: [&str; 2] = ["kubectl.kubernetes.io/", "berth.dev/"];

/// Configuration key of an HTTP interface with additional host names of the workload.
const ALIASES_KEY: &str = "host-aliases";

/// Interfaces of `wasi:http` that handle requests, in its versions 0.2 and 0.3.
const HTTP_HANDLERS: [&str; 2] = ["incoming-handler", "handler"];

/// Names of the objects that a workload refers to, in its own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Names of ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Names of Secrets, including image pull secrets.
    pub secrets: BTreeSet<String>,
}

/// Content of the objects that a workload refers to, as far as they exist.
#[derive(Debug, Clone, Default)]
pub struct ReferencedData {
    /// Data of the ConfigMaps.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Secret>,
}

/// Error of [`start_request`]. Its message contains names but never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A referenced ConfigMap does not exist.
    #[error("ConfigMap {0:?} does not exist")]
    MissingConfigMap(String),
    /// A referenced Secret does not exist.
    #[error("Secret {0:?} does not exist")]
    MissingSecret(String),
    /// A value of a Secret is not UTF-8.
    #[error("key {key:?} of Secret {secret:?} is not UTF-8")]
    NotText {
        /// Name of the Secret.
        secret: String,
        /// Key in the Secret.
        key: String,
    },
    /// An image pull secret has the wrong type.
    #[error("Secret {0:?} is not of type kubernetes.io/dockerconfigjson")]
    NotAPullSecret(String),
    /// An image pull secret is invalid.
    #[error("invalid image pull secret {secret:?}: {reason}")]
    InvalidPullSecret {
        /// Name of the Secret.
        secret: String,
        /// Description of the error, without values.
        reason: String,
    },
    /// `maxRestarts` is negative.
    #[error("maxRestarts of the service is negative: {0}")]
    NegativeRestarts(i32),
}

/// Returns the names of the objects that `spec` refers to.
#[must_use]
pub fn references(spec: &WorkloadSpec) -> References {
    let mut references = References::default();
    for component in &spec.components {
        references.add_pull_secret(component.image_pull_secret.as_ref());
        references.add_resources(component.local_resources.as_ref());
    }
    for interface in &spec.host_interfaces {
        references.add_layer(&interface.config_from, &interface.secret_from);
    }
    if let Some(service) = &spec.service {
        references.add_pull_secret(service.image_pull_secret.as_ref());
        references.add_resources(service.local_resources.as_ref());
    }
    references
}

impl References {
    fn add_pull_secret(&mut self, reference: Option<&LocalReference>) {
        self.secrets
            .extend(reference.map(|reference| reference.name.clone()));
    }

    fn add_resources(&mut self, resources: Option<&LocalResources>) {
        if let Some(layer) = resources.and_then(|resources| resources.environment.as_ref()) {
            self.add_layer(&layer.config_from, &layer.secret_from);
        }
    }

    fn add_layer(&mut self, config_from: &[LocalReference], secret_from: &[LocalReference]) {
        self.config_maps
            .extend(config_from.iter().map(|reference| reference.name.clone()));
        self.secrets
            .extend(secret_from.iter().map(|reference| reference.name.clone()));
    }
}

/// Returns the request that starts `workload` under `id`.
///
/// # Errors
///
/// Returns an error if a referenced object is missing or invalid.
pub fn start_request(
    workload: &Workload,
    id: &str,
    data: &ReferencedData,
) -> Result<wire::WorkloadStartRequest, RequestError> {
    let spec = &workload.spec;
    let metadata = &workload.metadata;
    let components = spec
        .components
        .iter()
        .map(|component| component_of(component, data));
    let aliases = aliases(workload);
    let interfaces = spec
        .host_interfaces
        .iter()
        .map(|interface| interface_of(interface, &aliases, data));
    let service = spec
        .service
        .as_ref()
        .map(|service| service_of(service, data));
    Ok(wire::WorkloadStartRequest {
        workload_id: id.to_owned(),
        workload: Some(wire::Workload {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            annotations: annotations(&metadata.annotations),
            service: service.transpose()?,
            wit_world: Some(wire::WitWorld {
                components: components.collect::<Result<_, _>>()?,
                host_interfaces: interfaces.collect::<Result<_, _>>()?,
            }),
            volumes: spec.volumes.iter().map(volume_of).collect(),
        }),
    })
}

fn annotations(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_private = |key: &str| {
        PRIVATE_ANNOTATION_PREFIXES
            .iter()
            .any(|private| key.starts_with(private))
    };
    all.iter()
        .filter(|(key, _)| !is_private(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn component_of(
    component: &WorkloadComponent,
    data: &ReferencedData,
) -> Result<wire::Component, RequestError> {
    Ok(wire::Component {
        name: component.name.clone(),
        image: component.image.clone(),
        local_resources: Some(resources_of(component.local_resources.as_ref(), data)?),
        pool_size: component.pool_size,
        max_invocations: component.max_invocations,
        max_concurrency: component.max_concurrency,
        image_pull_secret: data
            .credentials(component.image_pull_secret.as_ref(), &component.image)?,
        image_pull_policy: pull_policy(&component.image_pull_policy).into(),
    })
}

fn service_of(
    service: &WorkloadService,
    data: &ReferencedData,
) -> Result<wire::Service, RequestError> {
    Ok(wire::Service {
        image: service.image.clone(),
        local_resources: Some(resources_of(service.local_resources.as_ref(), data)?),
        max_restarts: u64::try_from(service.max_restarts)
            .map_err(|_| RequestError::NegativeRestarts(service.max_restarts))?,
        image_pull_secret: data.credentials(service.image_pull_secret.as_ref(), &service.image)?,
        image_pull_policy: pull_policy(&service.image_pull_policy).into(),
    })
}

fn pull_policy(text: &str) -> wire::ImagePullPolicy {
    match text {
        "Always" => wire::ImagePullPolicy::Always,
        "IfNotPresent" => wire::ImagePullPolicy::IfNotPresent,
        "Never" => wire::ImagePullPolicy::Never,
        _ => wire::ImagePullPolicy::Unspecified,
    }
}

fn resources_of(
    resources: Option<&LocalResources>,
    data: &ReferencedData,
) -> Result<wire::LocalResources, RequestError> {
    let Some(resources) = resources else {
        return Ok(wire::LocalResources::default());
    };
    let environment = match &resources.environment {
        Some(ConfigLayer {
            config,
            config_from,
            secret_from,
            ..
        }) => data.merged(config, config_from, secret_from)?,
        None => BTreeMap::new(),
    };
    let mounts = resources
        .volume_mounts
        .iter()
        .map(|mount| wire::VolumeMount {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
        });
    Ok(wire::LocalResources {
        // The CRDs have no fields for these limits, so the defaults of the host apply.
        memory_limit_mb: 0,
        cpu_limit: 0,
        config: resources.config.clone(),
        environment,
        volume_mounts: mounts.collect(),
        allowed_hosts: resources.allowed_hosts.clone(),
        allowed_ip_name_lookups: resources.allowed_ip_name_lookups.clone(),
        allowed_host_loopback_ports: resources.allowed_host_loopback_ports.clone(),
    })
}

fn interface_of(
    interface: &HostInterface,
    aliases: &[String],
    data: &ReferencedData,
) -> Result<wire::WitInterface, RequestError> {
    let mut config = data.merged(
        &interface.config,
        &interface.config_from,
        &interface.secret_from,
    )?;
    if handles_http(interface) && !aliases.is_empty() {
        let all = with_aliases(config.get(ALIASES_KEY).map_or("", String::as_str), aliases);
        config.insert(ALIASES_KEY.to_owned(), all);
    }
    Ok(wire::WitInterface {
        namespace: interface.namespace.clone(),
        package: interface.package.clone(),
        version: interface.version.clone(),
        interfaces: interface.interfaces.clone(),
        config,
        name: interface.name.clone(),
    })
}

fn handles_http(interface: &HostInterface) -> bool {
    interface.namespace == "wasi"
        && interface.package == "http"
        && interface
            .interfaces
            .iter()
            .any(|name| HTTP_HANDLERS.contains(&name.as_str()))
}

/// Returns the DNS names of the Service of `workload` in the cluster, if it has one.
fn aliases(workload: &Workload) -> Vec<String> {
    let service = workload
        .spec
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.service.as_ref());
    service.map_or_else(Vec::new, |service| {
        let (name, namespace) = (&service.name, &workload.metadata.namespace);
        vec![
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
        ]
    })
}

/// Appends to the comma-separated list `listed` the `aliases` that it does not contain.
fn with_aliases(listed: &str, aliases: &[String]) -> String {
    let mut all: Vec<&str> = listed
        .split(',')
        .map(str::trim)
        .filter(|alias| !alias.is_empty())
        .collect();
    for alias in aliases {
        if !all.contains(&alias.as_str()) {
            all.push(alias);
        }
    }
    all.join(",")
}

fn volume_of(volume: &Volume) -> wire::Volume {
    use wire::volume::VolumeType;
    let volume_type = match (&volume.ephemeral, &volume.host_path) {
        (None, Some(path)) => VolumeType::HostPath(wire::HostPathVolume {
            local_path: path.path.clone(),
        }),
        _ => VolumeType::EmptyDir(wire::EmptyDirVolume {}),
    };
    wire::Volume {
        name: volume.name.clone(),
        volume_type: Some(volume_type),
    }
}

impl ReferencedData {
    /// Merges literal values, ConfigMaps and Secrets. Later layers, and later entries of a list,
    /// take precedence.
    fn merged(
        &self,
        config: &BTreeMap<String, String>,
        config_from: &[LocalReference],
        secret_from: &[LocalReference],
    ) -> Result<BTreeMap<String, String>, RequestError> {
        let mut merged = config.clone();
        for reference in config_from {
            let values = self.config_maps.get(&reference.name);
            let values =
                values.ok_or_else(|| RequestError::MissingConfigMap(reference.name.clone()))?;
            merged.extend(
                values
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        for reference in secret_from {
            for (key, value) in &self.secret(&reference.name)?.data {
                let text = String::from_utf8(value.clone()).map_err(|_| RequestError::NotText {
                    secret: reference.name.clone(),
                    key: key.clone(),
                })?;
                merged.insert(key.clone(), text);
            }
        }
        Ok(merged)
    }

    /// Returns the credentials of an image pull secret for the registry of `image` only.
    fn credentials(
        &self,
        reference: Option<&LocalReference>,
        image: &str,
    ) -> Result<Option<wire::ImagePullSecret>, RequestError> {
        let Some(LocalReference { name, .. }) = reference else {
            return Ok(None);
        };
        let secret = self.secret(name)?;
        let data = secret
            .data
            .get(pull_secret::DATA_KEY)
            .filter(|_| secret.kind == pull_secret::SECRET_TYPE);
        let data = data.ok_or_else(|| RequestError::NotAPullSecret(name.clone()))?;
        pull_secret::credentials(data, image).map_err(|reason| RequestError::InvalidPullSecret {
            secret: name.clone(),
            reason,
        })
    }

    fn secret(&self, name: &str) -> Result<&Secret, RequestError> {
        self.secrets
            .get(name)
            .ok_or_else(|| RequestError::MissingSecret(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
