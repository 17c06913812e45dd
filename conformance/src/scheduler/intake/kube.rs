//! The intake of Kubernetes: custom resources through an API server, in namespaces of the suite's own.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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

/// Who the fields that the suite writes belong to.
const FIELD_MANAGER: &str = "berth-conformance";
/// An API server says 429 or 500 for a moment, when a definition is new or much comes at once.
const TRY_AGAIN_FOR: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// What may hold an object that is to go when its scheduler is gone already.
const HELD: [&str; 7] = [
    "WorkloadDeployment",
    "WorkloadReplicaSet",
    "Workload",
    "Artifact",
    "Host",
    "Pod",
    "Service",
];
/// The kinds that an object and what was made for it are of.
const FAMILY: [&str; 3] = ["WorkloadDeployment", "WorkloadReplicaSet", "Workload"];

/// Kind, group, version, plural.
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
const GROUP: &str = "runtime.wasmcloud.dev";

/// A namespace, where others see `default`, and further ones beside it when they are asked for.
#[derive(Clone)]
pub struct KubeIntake {
    client: Client,
    base: String,
    /// The namespaces that were made here, to be taken away at the end.
    made: Arc<Mutex<BTreeSet<String>>>,
}

impl std::fmt::Debug for KubeIntake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KubeIntake").field(&self.base).finish()
    }
}

impl KubeIntake {
    /// Connects, and makes the namespace when there is none of that name yet.
    ///
    /// # Errors
    /// The file does not lead to an API server.
    pub async fn open(kubeconfig: &Path, namespace: &str) -> Result<KubeIntake, IntakeError> {
        // Several providers may be linked in, and then one has to be chosen. Another one that was is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = || kubeconfig.display().to_string();
        let bad = |source| IntakeError::Kubeconfig {
            path: path(),
            source,
        };
        let file = Kubeconfig::read_from(kubeconfig).map_err(bad)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.map_err(bad)?);
        let intake = KubeIntake {
            client: client.map_err(|source| IntakeError::cluster("cannot be reached", source))?,
            base: namespace.to_owned(),
            made: Arc::default(),
        };
        intake.make_namespace(namespace).await?;
        Ok(intake)
    }

    /// The name in the cluster of what manifests call that namespace.
    pub fn namespace(&self, called: &str) -> String {
        match called {
            NAMESPACE => self.base.clone(),
            other => format!("{}-{other}", self.base),
        }
    }

    /// Applies an object as its only author: what it does not say any more goes.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        let key = manifest.key();
        let namespace = self.namespace(&key.namespace);
        if key.namespace != NAMESPACE {
            self.make_namespace(&namespace).await?;
        }
        let object = manifest.clone().namespace(&namespace);
        let api = self.api(&key)?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object.json());
        match patiently(|| api.patch(&key.name, &parameters, &patch)).await {
            Ok(_) => Ok(()),
            // Applying takes lists in which keys are not doubled; creating takes more.
            Err(source) if is_untyped(&source) => self.create(&key, &object).await,
            Err(source) => Err(refused(&key, source)),
        }
    }

    async fn create(&self, key: &Key, manifest: &Manifest) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let object: DynamicObject =
            serde_json::from_value(manifest.json().clone()).map_err(|source| {
                let source = kube::Error::SerdeError(source);
                IntakeError::cluster("cannot be sent this", source)
            })?;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&parameters, &object).await {
            Ok(_) => Ok(()),
            Err(source) if code(&source) == Some(409) => {
                self.change(key, manifest.json().clone()).await
            }
            Err(source) => Err(refused(key, source)),
        }
    }

    /// Sets the status of an object, as another scheduler would.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn set_status(&self, key: &Key, status: Value) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(json!({ "status": status }));
        let parameters = PatchParams::default();
        patiently(|| api.patch_status(&key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| refused(key, source))
    }

    /// Changes members of an object.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn change(&self, key: &Key, members: Value) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(members);
        let parameters = PatchParams::default();
        patiently(|| api.patch(&key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| refused(key, source))
    }

    /// The scale subresource of an object.
    ///
    /// # Errors
    /// There is none.
    pub async fn scale(&self, key: &Key) -> Result<Value, IntakeError> {
        let api = self.api(key)?;
        let scale = patiently(|| api.get_subresource("scale", &key.name)).await;
        scale
            .map(|scale| plain(&key.kind, &scale))
            .map_err(|source| refused(key, source))
    }

    /// Sets the number of replicas by the scale subresource.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn set_scale(&self, key: &Key, replicas: i64) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams::default();
        patiently(|| api.patch_subresource("scale", &key.name, &parameters, &patch))
            .await
            .map(|_| ())
            .map_err(|source| refused(key, source))
    }

    /// Deletes an object, at once and what belongs to it later, or all of it first when `foreground`.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn remove(&self, key: &Key, foreground: bool) -> Result<(), IntakeError> {
        let api = self.api(key)?;
        let policy = match foreground {
            true => PropagationPolicy::Foreground,
            false => PropagationPolicy::Background,
        };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        match patiently(|| api.delete(&key.name, &parameters)).await {
            Err(source) if code(&source) != Some(404) => Err(refused(key, source)),
            _ => Ok(()),
        }
    }

    /// An object, when there is one.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        let api = self.api(key)?;
        match patiently(|| api.get_opt(&key.name)).await {
            Ok(found) => Ok(found.map(|object| self.called(plain(&key.kind, &object)))),
            Err(source) => Err(refused(key, source)),
        }
    }

    /// All objects of a kind in the namespace.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>, IntakeError> {
        let key = Key::new(kind, "");
        let api = self.api(&key)?;
        let parameters = ListParams::default();
        let list = patiently(|| api.list(&parameters)).await;
        let items = list.map_err(|source| refused(&key, source))?.items;
        let items = items.iter().take(MAX_OBJECTS);
        Ok(items
            .map(|object| self.called(plain(kind, object)))
            .collect())
    }

    /// An object and what was made for it, which is named after it.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn family(&self, key: &Key) -> Result<Vec<Value>, IntakeError> {
        let mut family = Vec::new();
        for kind in FAMILY {
            let objects = self.list(kind).await?.into_iter();
            family.extend(objects.filter(|object| Key::of(object).name.starts_with(&key.name)));
        }
        Ok(family)
    }

    /// Takes away every namespace that was made here, whatever holds what is in it. The scheduler is gone.
    pub async fn close(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(
            made.iter()
                .map(|namespace| self.remove_namespace(namespace)),
        )
        .await;
    }

    async fn make_namespace(&self, name: &str) -> Result<(), IntakeError> {
        let there = |made: &BTreeSet<String>| made.contains(name);
        if there(&self.made.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let key = Key::new("Namespace", name);
        let api = self.api(&key)?;
        let found = patiently(|| api.get_opt(name)).await;
        if found.map_err(|source| refused(&key, source))?.is_some() {
            // It is somebody's, and stays.
            return Ok(());
        }
        let object =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let patch = Patch::Apply(&object);
        let made = patiently(|| api.patch(name, &parameters, &patch)).await;
        made.map_err(|source| refused(&key, source))?;
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
        Ok(())
    }

    /// Best effort: what cannot be taken away is left to whoever looks after the cluster.
    async fn remove_namespace(&self, namespace: &str) {
        let key = Key::new("Namespace", namespace);
        let _ = self.remove(&key, false).await;
        let parameters = PatchParams::default();
        let all = ListParams::default();
        let let_go = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for kind in HELD {
            let Some(resource) = resource(kind) else {
                continue;
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &resource);
            let Ok(list) = patiently(|| api.list(&all)).await else {
                continue;
            };
            let held = list
                .items
                .into_iter()
                .filter(|object| object.metadata.finalizers.is_some());
            let names: Vec<String> = held.filter_map(|object| object.metadata.name).collect();
            for name in names {
                let _ = patiently(|| api.patch(&name, &parameters, &let_go)).await;
            }
        }
    }

    fn api(&self, key: &Key) -> Result<Api<DynamicObject>, IntakeError> {
        let resource = resource(&key.kind).ok_or_else(|| IntakeError::Refused {
            key: key.clone(),
            text: "the intake does not know this kind".to_owned(),
        })?;
        let client = self.client.clone();
        Ok(match key.kind.as_str() {
            "Namespace" => Api::all_with(client, &resource),
            _ => Api::namespaced_with(client, &self.namespace(&key.namespace), &resource),
        })
    }

    /// With the namespace as manifests call it.
    fn called(&self, mut object: Value) -> Value {
        let Some(Value::String(namespace)) = object.pointer_mut("/metadata/namespace") else {
            return object;
        };
        let called = match namespace.strip_prefix(&self.base) {
            Some("") => Some(NAMESPACE.to_owned()),
            Some(rest) => rest.strip_prefix('-').map(str::to_owned),
            None => None,
        };
        if let Some(called) = called {
            *namespace = called;
        }
        object
    }
}

fn resource(kind: &str) -> Option<ApiResource> {
    let (kind, group, version, plural) = RESOURCES.iter().find(|row| row.0 == kind)?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    Some(ApiResource::from_gvk_with_plural(&kind, plural))
}

/// As JSON; lists leave out of what kind their items are.
fn plain(kind: &str, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.entry("kind").or_insert_with(|| json!(kind));
    }
    value
}

/// Again, while the API server says that it cannot at the moment.
async fn patiently<T, F, Fut>(mut request: F) -> Result<T, kube::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, kube::Error>>,
{
    let began = Instant::now();
    loop {
        match request().await {
            Err(error) if passes(&error) && began.elapsed() < TRY_AGAIN_FOR => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn passes(error: &kube::Error) -> bool {
    matches!(code(error), Some(409 | 429 | 500 | 503 | 504)) && !is_untyped(error)
}

/// What an API server says of objects that it cannot apply, with the code of its own failures.
fn is_untyped(error: &kube::Error) -> bool {
    let text = "failed to create typed patch object";
    matches!(error, kube::Error::Api(status) if status.message.contains(text))
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn refused(key: &Key, source: kube::Error) -> IntakeError {
    match source {
        kube::Error::Api(status) => IntakeError::Refused {
            key: key.clone(),
            text: crate::wire::response::shortened(&status.message, 400),
        },
        source => IntakeError::cluster("does not answer", source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_a_family_and_everything_that_may_be_held_is_known() {
        for kind in FAMILY.iter().chain(&HELD) {
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
