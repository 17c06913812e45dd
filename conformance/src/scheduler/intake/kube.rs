//! The kube intake: custom resources on an API server, in namespaces that the suite creates.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::{IntakeError, MAX_OBJECTS};
use crate::scheduler::manifest::{Key, Manifest, NAMESPACE};

/// Field manager of the fields that the suite writes.
const FIELD_MANAGER: &str = "berth-conformance";
/// Time for which a request is retried, because an API server may return 429 or 500 under load or
/// for a new custom resource definition.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Kinds whose objects may have finalizers that prevent their deletion after the scheduler has
/// ended.
const KINDS_WITH_FINALIZERS: [&str; 7] = [
    "WorkloadDeployment",
    "WorkloadReplicaSet",
    "Workload",
    "Artifact",
    "Host",
    "Pod",
    "Service",
];
/// Kinds of a deployment and its children.
const DEPLOYMENT_KINDS: [&str; 3] = ["WorkloadDeployment", "WorkloadReplicaSet", "Workload"];

/// Supported resources: kind, group, version and plural.
const RESOURCES: [(&str, &str, &str, &str); 12] = [
    ("Artifact", GROUP, "v1alpha1", "artifacts"),
    ("Host", GROUP, "v1alpha1", "hosts"),
    ("Workload", GROUP, "v1alpha1", "workloads"),
    (
        "WorkloadReplicaSet",
        GROUP,
        "v1alpha1",
        "workloadreplicasets",
    ),
    (
        "WorkloadDeployment",
        GROUP,
        "v1alpha1",
        "workloaddeployments",
    ),
    ("ConfigMap", "", "v1", "configmaps"),
    ("Secret", "", "v1", "secrets"),
    ("Service", "", "v1", "services"),
    ("Pod", "", "v1", "pods"),
    ("Namespace", "", "v1", "namespaces"),
    ("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    ("Lease", "coordination.k8s.io", "v1", "leases"),
];
/// API group of the custom resources.
const GROUP: &str = "runtime.wasmcloud.dev";

/// Open kube intake: one namespace for the manifests in `default`, and other namespaces that the
/// intake creates when a manifest needs them.
#[derive(Clone)]
pub struct KubeIntake {
    client: Client,
    base_namespace: String,
    /// Namespaces that the intake has created. [`KubeIntake::close`] deletes them.
    created_namespaces: Arc<Mutex<BTreeSet<String>>>,
}

impl std::fmt::Debug for KubeIntake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KubeIntake")
            .field(&self.base_namespace)
            .finish()
    }
}

impl KubeIntake {
    /// Connects to the API server, and creates the namespace if it does not exist.
    ///
    /// # Errors
    /// The kubeconfig file is invalid, or the API server cannot be used.
    pub async fn open(kubeconfig: &Path, namespace: &str) -> Result<KubeIntake, IntakeError> {
        // If several providers are linked, rustls requires a choice. The result is ignored, because
        // an earlier choice of another provider works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = || kubeconfig.display().to_string();
        let invalid = |source| IntakeError::Kubeconfig {
            path: path(),
            source,
        };
        let file = Kubeconfig::read_from(kubeconfig).map_err(invalid)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.map_err(invalid)?);
        let unusable = |source| IntakeError::cluster("cannot connect to the API server", source);
        let intake = KubeIntake {
            client: client.map_err(unusable)?,
            base_namespace: namespace.to_owned(),
            created_namespaces: Arc::default(),
        };
        intake.create_namespace(namespace).await?;
        Ok(intake)
    }

    /// Returns the name in the cluster for a namespace of manifests.
    pub fn namespace(&self, name: &str) -> String {
        match name {
            NAMESPACE => self.base_namespace.clone(),
            other => format!("{}-{other}", self.base_namespace),
        }
    }

    /// Creates or replaces an object by server-side apply. Removes fields that the suite has set
    /// earlier and that are no longer in the manifest.
    ///
    /// # Errors
    /// The API server refuses the object.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        let key = manifest.key();
        let namespace = self.namespace(&key.namespace);
        if key.namespace != NAMESPACE {
            self.create_namespace(&namespace).await?;
        }
        let object = manifest.clone().namespace(&namespace);
        let api = self.api(&key)?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object.json());
        match retry_transient(|| api.patch(&key.name, &parameters, &patch)).await {
            Ok(_) => Ok(()),
            // Apply rejects lists with duplicate keys, which create accepts.
            Err(source) if is_apply_rejection(&source) => self.create(&key, &object).await,
            Err(source) => Err(request_error(&key, source)),
        }
    }

    async fn create(&self, key: &Key, manifest: &Manifest) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let object: DynamicObject =
            serde_json::from_value(manifest.json().clone()).map_err(|source| {
                let source = kube::Error::SerdeError(source);
                IntakeError::cluster("cannot encode the object for the API server", source)
            })?;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&parameters, &object).await {
            Ok(_) => Ok(()),
            Err(source) if code(&source) == Some(409) => {
                self.patch(key, manifest.json().clone()).await
            }
            Err(source) => Err(request_error(key, source)),
        }
    }

    /// Sets the status of an object, as another scheduler would.
    ///
    /// # Errors
    /// The API server refuses the status.
    pub async fn set_status(&self, key: &Key, status: Value) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(json!({ "status": status }));
        let parameters = PatchParams::default();
        retry_transient(|| api.patch_status(&key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| request_error(key, source))
    }

    /// Merges members into an object.
    ///
    /// # Errors
    /// The API server refuses the change.
    pub async fn patch(&self, key: &Key, members: Value) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(members);
        let parameters = PatchParams::default();
        retry_transient(|| api.patch(&key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| request_error(key, source))
    }

    /// Returns the scale subresource of an object.
    ///
    /// # Errors
    /// The object has no scale subresource.
    pub async fn scale(&self, key: &Key) -> Result<Value, IntakeError> {
        let api = self.api(key)?;
        let scale = retry_transient(|| api.get_subresource("scale", &key.name)).await;
        scale
            .map(|scale| to_json(&key.kind, &scale))
            .map_err(|source| request_error(key, source))
    }

    /// Sets the number of replicas through the scale subresource.
    ///
    /// # Errors
    /// The API server refuses the change.
    pub async fn set_scale(&self, key: &Key, replicas: i64) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams::default();
        retry_transient(|| api.patch_subresource("scale", &key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| request_error(key, source))
    }

    /// Deletes an object before its dependents.
    ///
    /// # Errors
    /// The request fails.
    pub async fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        self.delete_with(key, PropagationPolicy::Background).await
    }

    /// Deletes an object after its dependents.
    ///
    /// # Errors
    /// The request fails.
    pub async fn delete_in_foreground(&self, key: &Key) -> Result<(), IntakeError> {
        self.delete_with(key, PropagationPolicy::Foreground).await
    }

    async fn delete_with(&self, key: &Key, policy: PropagationPolicy) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        match retry_transient(|| api.delete(&key.name, &parameters)).await {
            Err(source) if code(&source) != Some(404) => Err(request_error(key, source)),
            _ => Ok(()),
        }
    }

    /// Returns an object, if it exists.
    ///
    /// # Errors
    /// The request fails.
    pub async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        let api = self.api(key)?;
        match retry_transient(|| api.get_opt(&key.name)).await {
            Ok(found) => {
                Ok(found.map(|object| self.with_manifest_namespace(to_json(&key.kind, &object))))
            }
            Err(source) => Err(request_error(key, source)),
        }
    }

    /// Returns all objects of a kind in the namespace.
    ///
    /// # Errors
    /// The request fails.
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>, IntakeError> {
        let key = Key::new(kind, "");
        let api = self.api(&key)?;
        let parameters = ListParams::default();
        let list = retry_transient(|| api.list(&parameters)).await;
        let items = list.map_err(|source| request_error(&key, source))?.items;
        let items = items.iter().take(MAX_OBJECTS);
        Ok(items
            .map(|object| self.with_manifest_namespace(to_json(kind, object)))
            .collect())
    }

    /// Returns an object and the objects that were created for it, whose names begin with its name.
    ///
    /// # Errors
    /// The request fails.
    pub async fn object_and_children(&self, key: &Key) -> Result<Vec<Value>, IntakeError> {
        let mut found = Vec::new();
        for kind in DEPLOYMENT_KINDS {
            let objects = self.list(kind).await?.into_iter();
            found.extend(objects.filter(|object| Key::of(object).name.starts_with(&key.name)));
        }
        Ok(found)
    }

    /// Deletes every namespace that the intake has created, and removes the finalizers of the
    /// objects in it, which a scheduler that has ended no longer removes.
    pub async fn close(&self) {
        let namespaces = std::mem::take(&mut *self.lock_created());
        join_all(
            namespaces
                .iter()
                .map(|namespace| self.delete_namespace(namespace)),
        )
        .await;
    }

    fn lock_created(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.created_namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn create_namespace(&self, name: &str) -> Result<(), IntakeError> {
        if self.lock_created().contains(name) {
            return Ok(());
        }
        let key = Key::new("Namespace", name);
        let api = self.api(&key)?;
        let found = retry_transient(|| api.get_opt(name)).await;
        if found
            .map_err(|source| request_error(&key, source))?
            .is_some()
        {
            // The namespace belongs to the user, and remains.
            return Ok(());
        }
        let object =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let patch = Patch::Apply(&object);
        let created = retry_transient(|| api.patch(name, &parameters, &patch)).await;
        created.map_err(|source| request_error(&key, source))?;
        self.lock_created().insert(name.to_owned());
        Ok(())
    }

    /// Deletes a namespace and removes the finalizers of its objects. After an error, objects may
    /// remain.
    async fn delete_namespace(&self, namespace: &str) {
        let key = Key::new("Namespace", namespace);
        let _ = self.delete(&key).await;
        let parameters = PatchParams::default();
        let all = ListParams::default();
        let without_finalizers = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for kind in KINDS_WITH_FINALIZERS {
            let Some(resource) = resource(kind) else {
                continue;
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &resource);
            let Ok(list) = retry_transient(|| api.list(&all)).await else {
                continue;
            };
            let with_finalizers = list
                .items
                .into_iter()
                .filter(|object| object.metadata.finalizers.is_some());
            let names: Vec<String> = with_finalizers
                .filter_map(|object| object.metadata.name)
                .collect();
            for name in names {
                let _ =
                    retry_transient(|| api.patch(&name, &parameters, &without_finalizers)).await;
            }
        }
    }

    fn api(&self, key: &Key) -> Result<Api<DynamicObject>, IntakeError> {
        let resource = resource(&key.kind).ok_or_else(|| IntakeError::Refused {
            key: key.clone(),
            text: "unknown kind".to_owned(),
        })?;
        let client = self.client.clone();
        Ok(match key.kind.as_str() {
            "Namespace" => Api::all_with(client, &resource),
            _ => Api::namespaced_with(client, &self.namespace(&key.namespace), &resource),
        })
    }

    /// Replaces the namespace of an object by its name in manifests.
    fn with_manifest_namespace(&self, mut object: Value) -> Value {
        let Some(Value::String(namespace)) = object.pointer_mut("/metadata/namespace") else {
            return object;
        };
        let in_manifests = match namespace.strip_prefix(&self.base_namespace) {
            Some("") => Some(NAMESPACE.to_owned()),
            Some(suffix) => suffix.strip_prefix('-').map(str::to_owned),
            None => None,
        };
        if let Some(in_manifests) = in_manifests {
            *namespace = in_manifests;
        }
        object
    }
}

fn resource(kind: &str) -> Option<ApiResource> {
    let (kind, group, version, plural) = RESOURCES.iter().find(|row| row.0 == kind)?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    Some(ApiResource::from_gvk_with_plural(&kind, plural))
}

/// Converts an object to JSON with its kind, which the items of a list lack.
fn to_json(kind: &str, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.entry("kind").or_insert_with(|| json!(kind));
    }
    value
}

/// Retries a request while it fails with a transient error, for at most [`RETRY_FOR`].
async fn retry_transient<T, F, Fut>(mut request: F) -> Result<T, kube::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, kube::Error>>,
{
    let started_at = Instant::now();
    loop {
        match request().await {
            Err(error) if is_transient(&error) && started_at.elapsed() < RETRY_FOR => {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}

fn is_transient(error: &kube::Error) -> bool {
    matches!(code(error), Some(409 | 429 | 500 | 503 | 504)) && !is_apply_rejection(error)
}

/// Returns whether the error means that the API server cannot apply this object at all. Its status
/// code is that of a transient internal error.
fn is_apply_rejection(error: &kube::Error) -> bool {
    let text = "failed to create typed patch object";
    matches!(error, kube::Error::Api(status) if status.message.contains(text))
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn request_error(key: &Key, source: kube::Error) -> IntakeError {
    match source {
        kube::Error::Api(status) => IntakeError::Refused {
            key: key.clone(),
            text: crate::wire::response::shortened(&status.message, 400),
        },
        source => IntakeError::cluster("the request to the API server failed", source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_resource_of_every_listed_kind() {
        for kind in DEPLOYMENT_KINDS.iter().chain(&KINDS_WITH_FINALIZERS) {
            assert!(resource(kind).is_some(), "{kind}");
        }
        let resource = resource("Workload").unwrap();
        assert_eq!(
            resource.api_version,
            crate::scheduler::manifest::API_VERSION
        );
        assert_eq!(super::resource("Pod").unwrap().api_version, "v1");
    }
}
