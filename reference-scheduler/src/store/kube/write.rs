//! Executes the writes of the core on the API server.

use std::future::Future;
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::SemaphorePermit;

use super::error::{self, ApiError};
use super::write_priority::UrgentGuard;
use super::{FIELD_MANAGER, KubeStore, REQUEST_TIMEOUT, object};
use crate::api::{Key, Kind, Object};
use crate::core::{MetadataPatch, Status, StoreError, Write};
use crate::fault_injection::Breakage;

/// Field manager of Host objects, the same as in wasmCloud's operator. With another manager, a
/// label that a host no longer has would never be removed after a change of scheduler, because the
/// old manager would own the label.
const HOST_MANAGER: &str = "host-status-updater";

/// Maximum number of attempts of one write that conflicts with other writes: few, because users and
/// other controllers rarely write these objects. After the last attempt, the core retries.
const ATTEMPTS_MAX: usize = 4;

/// Backoff while the server is too busy for a request: shortly after its start, shortly after a CRD
/// was created, and under load.
const THROTTLED_BACKOFF_MS: [u64; 5] = [100, 200, 400, 800, 1600];

/// The permits that a write holds while it is in flight.
struct Permits<'a> {
    _urgent: Option<UrgentGuard<'a>>,
    _of_kind: Option<SemaphorePermit<'a>>,
    _write: SemaphorePermit<'a>,
}

impl KubeStore {
    /// Executes a write, and caches the object of the response.
    pub(super) async fn execute(&self, write: Write) -> Result<Object, StoreError> {
        let _permits = self.acquire_permits(&write).await?;
        let result = match write {
            Write::Create(object) => self.create(&object).await,
            Write::ApplyHost(host) => self.apply_host(&host).await,
            Write::Status {
                key, uid, status, ..
            } => {
                self.update(&key, &uid, |current| with_status(current, &status))
                    .await
            }
            Write::Metadata { key, uid, patch } => {
                self.update(&key, &uid, |current| Ok(metadata_patch(current, &patch)))
                    .await
            }
            Write::Replicas { key, uid, replicas } => {
                self.update(&key, &uid, |_| {
                    Ok(Update::Patch(json!({ "spec": { "replicas": replicas } })))
                })
                .await
            }
            Write::Delete { key, uid } => self.delete(&key, &uid).await,
        };
        if let Ok(object) = &result {
            self.shared.cache.put(object);
        }
        result.map_err(StoreError::from)
    }

    /// Waits for the permits of a write. Deferrable writes first yield to urgent ones. Creates and
    /// deferrable writes also need a permit of their kind, so that they never use all permits.
    async fn acquire_permits(&self, write: &Write) -> Result<Permits<'_>, StoreError> {
        let urgent = (!write.is_deferrable()).then(|| self.shared.write_priority.start_urgent());
        if urgent.is_none() {
            self.shared.write_priority.yield_to_urgent().await;
        }
        let limit = match write {
            Write::Create(_) => Some(&self.shared.create_permits),
            _ if write.is_deferrable() => Some(&self.shared.deferrable_permits),
            _ => None,
        };
        let closed = |_| StoreError::Unavailable("the store is closed".to_owned());
        let of_kind = match limit {
            Some(limit) => Some(limit.acquire().await.map_err(closed)?),
            None => None,
        };
        let write = self.shared.write_permits.acquire().await.map_err(closed)?;
        Ok(Permits {
            _urgent: urgent,
            _of_kind: of_kind,
            _write: write,
        })
    }

    async fn create(&self, wanted: &Object) -> Result<Object, ApiError> {
        let raw = object::encode(wanted).map_err(invalid_object)?;
        let api = self.api(wanted.kind(), &wanted.metadata().namespace);
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let response = retry_throttled(|| api.create(&parameters, &raw)).await?;
        object::decode(wanted.kind(), response).map_err(invalid_object)
    }

    async fn apply_host(&self, wanted: &Object) -> Result<Object, ApiError> {
        let mut body = wanted.to_value().map_err(invalid_object)?;
        if let Some(fields) = body.as_object_mut() {
            fields.remove("status");
            // The fields that the server sets must not be applied.
            let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
            let set_by_server = [
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
            ];
            metadata.into_iter().for_each(|metadata| {
                metadata.retain(|name, _| !set_by_server.contains(&name.as_str()))
            });
        }
        let metadata = wanted.metadata();
        let api = self.api(Kind::Host, &metadata.namespace);
        let parameters = PatchParams::apply(HOST_MANAGER).force();
        let patch = Patch::Apply(&body);
        let response = retry_throttled(|| api.patch(&metadata.name, &parameters, &patch)).await?;
        object::decode(Kind::Host, response).map_err(invalid_object)
    }

    /// Updates the object that has `uid`, based on its cached state. `update` returns the update
    /// for a state.
    async fn update(
        &self,
        key: &Key,
        uid: &str,
        update: impl Fn(&Object) -> Result<Update, ApiError>,
    ) -> Result<Object, ApiError> {
        let api = self.api(key.kind, &key.namespace);
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let mut current = match self.shared.cache.get(key) {
            Some(cached) if uid.is_empty() || cached.metadata().uid == uid => cached,
            _ => self.read(&api, key).await?,
        };
        for _ in 0..ATTEMPTS_MAX {
            if !uid.is_empty() && current.metadata().uid != uid {
                return Err(replaced());
            }
            let response = match update(&current)? {
                Update::Nothing => return Ok(current),
                Update::Patch(mut body) => {
                    // The server checks the version and rejects the patch if this state is stale.
                    set_version(&mut body, &current.metadata().resource_version);
                    let patch = Patch::Merge(&body);
                    let parameters = PatchParams {
                        field_manager: field_manager.clone(),
                        ..PatchParams::default()
                    };
                    retry_throttled(|| api.patch(&key.name, &parameters, &patch)).await
                }
                Update::Status(body) => {
                    let parameters = PostParams {
                        field_manager: field_manager.clone(),
                        ..PostParams::default()
                    };
                    retry_throttled(|| api.replace_status(&key.name, &parameters, &body)).await
                }
            };
            match response {
                Ok(raw) => return object::decode(key.kind, raw).map_err(invalid_object),
                Err(error) if error.is_conflict() => current = self.read(&api, key).await?,
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::Rejected {
            code: 409,
            reason: "Conflict".to_owned(),
            message: format!("{key} changed before each of {ATTEMPTS_MAX} attempts"),
        })
    }

    async fn delete(&self, key: &Key, uid: &str) -> Result<Object, ApiError> {
        let api = self.api(key.kind, &key.namespace);
        let last = match self.shared.cache.get(key) {
            Some(cached) if uid.is_empty() || cached.metadata().uid == uid => cached,
            _ => self.read(&api, key).await?,
        };
        if !uid.is_empty() && last.metadata().uid != uid {
            return Err(replaced());
        }
        let uid = last.metadata().uid.clone();
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        });
        match retry_throttled(|| api.delete(&key.name, &parameters)).await {
            Ok(response) => match response.left() {
                // The object still has finalizers.
                Some(raw) => object::decode(key.kind, raw).map_err(invalid_object),
                None => {
                    self.shared.cache.remove(key, &uid);
                    Ok(last)
                }
            },
            // The UID is the only precondition, so another object has the name.
            Err(error) if error.is_conflict() => Err(replaced()),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, api: &Api<DynamicObject>, key: &Key) -> Result<Object, ApiError> {
        let raw = retry_throttled(|| api.get(&key.name)).await?;
        let object = object::decode(key.kind, raw).map_err(invalid_object)?;
        self.shared.cache.put(&object);
        Ok(object)
    }
}

/// Sends a request, and retries it while the server is too busy. A request that fails with any
/// other error is not retried, because it may have taken effect.
pub(super) async fn retry_throttled<T, F>(request: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for backoff_ms in THROTTLED_BACKOFF_MS {
        match error::with_timeout(REQUEST_TIMEOUT, request()).await {
            Err(error) if error.is_throttled() => {
                tokio::time::sleep(Duration::from_millis(backoff_ms)).await
            }
            result => return result,
        }
    }
    error::with_timeout(REQUEST_TIMEOUT, request()).await
}

fn set_version(body: &mut Value, version: &str) {
    let fields = body.as_object_mut();
    let metadata = fields.map(|fields| fields.entry("metadata").or_insert_with(|| json!({})));
    if let Some(Value::Object(metadata)) = metadata {
        metadata.insert("resourceVersion".to_owned(), Value::from(version));
    }
}

fn replaced() -> ApiError {
    ApiError::Rejected {
        code: 404,
        reason: "NotFound".to_owned(),
        message: "another object with this name has replaced it".to_owned(),
    }
}

fn invalid_object(error: impl std::fmt::Display) -> ApiError {
    ApiError::NoResponse(error.to_string())
}

/// Update of an object.
#[derive(Debug)]
enum Update {
    /// Nothing to write.
    Nothing,
    /// A merge patch.
    Patch(Value),
    /// The object with its new status. The object is complete, because an omitted field would lose
    /// its owner. It is not a patch, because a patch is twice as expensive for the server.
    Status(Box<DynamicObject>),
}

/// Returns the update that replaces the whole status.
fn with_status(current: &Object, status: &Status) -> Result<Update, ApiError> {
    let mut wanted = current.clone();
    let applied = status.clone().apply_to(&mut wanted);
    applied.map_err(|error| ApiError::Rejected {
        code: 400,
        reason: "BadRequest".to_owned(),
        message: error.to_string(),
    })?;
    if wanted == *current {
        return Ok(Update::Nothing);
    }
    let mut raw = object::encode(&wanted).map_err(invalid_object)?;
    if let Some(status) = raw.data.get_mut("status").and_then(Value::as_object_mut) {
        break_status(status);
    }
    Ok(Update::Status(Box::new(raw)))
}

/// Applies injected faults to a status.
fn break_status(status: &mut Map<String, Value>) {
    if Breakage::NoScaleStatus.is_on() {
        status.retain(|name, _| name != "selector" && name != "currentReplicas");
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if let (true, Some(condition)) = (
            Breakage::NoObservedGeneration.is_on(),
            condition.as_object_mut(),
        ) {
            condition.remove("observedGeneration");
        }
    }
}

/// Returns the update that applies `patch` to `current`.
fn metadata_patch(current: &Object, patch: &MetadataPatch) -> Update {
    let metadata = current.metadata();
    let mut finalizers = metadata.finalizers.clone();
    if let Some(removed) = patch.remove_finalizer {
        finalizers.retain(|finalizer| finalizer != removed);
    }
    if let Some(new) = patch.add_finalizer
        && !metadata.has_finalizer(new)
        // The API server rejects new finalizers on an object that is being deleted.
        && !metadata.is_deleting()
    {
        finalizers.push(new.to_owned());
    }
    let mut changes = Map::new();
    if finalizers != metadata.finalizers {
        changes.insert("finalizers".to_owned(), Value::from(finalizers));
    }
    let annotations: Map<String, Value> = patch
        .annotations
        .iter()
        .filter(|(name, value)| metadata.annotations.get(*name) != value.as_ref())
        .map(|(name, value)| (name.clone(), Value::from(value.clone())))
        .collect();
    if !annotations.is_empty() {
        changes.insert("annotations".to_owned(), Value::Object(annotations));
    }
    if changes.is_empty() {
        Update::Nothing
    } else {
        Update::Patch(json!({ "metadata": changes }))
    }
}

#[cfg(test)]
mod tests;
