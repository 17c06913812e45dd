//! What the core decided, written to the API server.

use std::future::Future;
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::SemaphorePermit;

use super::error::{self, Failure};
use super::precedence::Urgent;
use super::{FIELD_MANAGER, KubeStore, REQUEST_TIMEOUT, object};
use crate::api::{Key, Kind, Object};
use crate::breakage::Breakage;
use crate::core::{MetadataPatch, Status, Write, WriteError};

/// Who applies Host objects: the name that upstream uses. With another one, a label that a host no
/// longer has would stay for ever after a change of scheduler, owned by the one that is gone.
const HOST_MANAGER: &str = "host-status-updater";

/// How often a write is made anew against the state that overtook it. People and other controllers
/// touch these objects rarely; more collisions than this in a row are for the core to know.
const CONFLICT_RETRIES: usize = 4;

/// The pauses while the server is too busy to look at a request: just after its start, just after a
/// definition was created, and under load.
const THROTTLED_PAUSES_MS: [u64; 5] = [100, 200, 400, 800, 1600];

/// What a write holds while it is under way.
struct Turn<'a> {
    _urgent: Option<Urgent<'a>>,
    _own: Option<SemaphorePermit<'a>>,
    _writing: SemaphorePermit<'a>,
}

impl KubeStore {
    /// Writes, and takes note of the state that the server answered with.
    pub(super) async fn carry_out(&self, write: Write) -> Result<Object, WriteError> {
        let _turn = self.turn(&write).await?;
        let result = match write {
            Write::Create(object) => self.create(&object).await,
            Write::ApplyHost(host) => self.apply_host(&host).await,
            Write::Status {
                key, uid, status, ..
            } => {
                self.change(&key, &uid, |current| with_status(current, &status))
                    .await
            }
            Write::Metadata { key, uid, patch } => {
                self.change(&key, &uid, |current| Ok(metadata_patch(current, &patch)))
                    .await
            }
            Write::Replicas { key, uid, replicas } => {
                self.change(&key, &uid, |_| {
                    Ok(Change::Patch(json!({ "spec": { "replicas": replicas } })))
                })
                .await
            }
            Write::Delete { key, uid } => self.delete(&key, &uid).await,
        };
        if let Ok(object) = &result {
            self.shared.known.put(object);
        }
        result.map_err(Failure::into_write)
    }

    /// A turn for a write. What can wait gives way first; creations and counts have turns of their own besides, so that
    /// they never take all there are.
    async fn turn(&self, write: &Write) -> Result<Turn<'_>, WriteError> {
        let urgent = (!write.can_wait()).then(|| self.shared.precedence.take());
        if urgent.is_none() {
            self.shared.precedence.give().await;
        }
        let queue = match write {
            Write::Create(_) => Some(&self.shared.creating),
            _ if write.can_wait() => Some(&self.shared.counting),
            _ => None,
        };
        let closed = |_| WriteError::Unavailable("the store is closed".to_owned());
        let own = match queue {
            Some(queue) => Some(queue.acquire().await.map_err(closed)?),
            None => None,
        };
        let writing = self.shared.writing.acquire().await.map_err(closed)?;
        Ok(Turn {
            _urgent: urgent,
            _own: own,
            _writing: writing,
        })
    }

    async fn create(&self, wanted: &Object) -> Result<Object, Failure> {
        let raw = object::encode(wanted).map_err(unreadable)?;
        let api = self.api(wanted.kind(), &wanted.metadata().namespace);
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let answer = patiently(|| api.create(&parameters, &raw)).await?;
        object::decode(wanted.kind(), answer).map_err(unreadable)
    }

    async fn apply_host(&self, wanted: &Object) -> Result<Object, Failure> {
        let mut body = wanted.to_value().map_err(unreadable)?;
        if let Some(fields) = body.as_object_mut() {
            fields.remove("status");
            // Applying says what this manager wants; what the server gives must not be in it.
            let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut);
            let given = [
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
            ];
            metadata
                .into_iter()
                .for_each(|metadata| metadata.retain(|name, _| !given.contains(&name.as_str())));
        }
        let metadata = wanted.metadata();
        let api = self.api(Kind::Host, &metadata.namespace);
        let parameters = PatchParams::apply(HOST_MANAGER).force();
        let patch = Patch::Apply(&body);
        let answer = patiently(|| api.patch(&metadata.name, &parameters, &patch)).await?;
        object::decode(Kind::Host, answer).map_err(unreadable)
    }

    /// Changes the object that has `uid`, against the last known state of it. `change` says what is to be
    /// done about a state.
    async fn change(
        &self,
        key: &Key,
        uid: &str,
        change: impl Fn(&Object) -> Result<Change, Failure>,
    ) -> Result<Object, Failure> {
        let api = self.api(key.kind, &key.namespace);
        let field_manager = Some(FIELD_MANAGER.to_owned());
        let mut current = match self.shared.known.get(key) {
            Some(known) if uid.is_empty() || known.metadata().uid == uid => known,
            _ => self.read(&api, key).await?,
        };
        for _ in 0..CONFLICT_RETRIES {
            if !uid.is_empty() && current.metadata().uid != uid {
                return Err(missing());
            }
            let answer = match change(&current)? {
                Change::Nothing => return Ok(current),
                Change::Patch(mut body) => {
                    // The version makes the server refuse when this state is no longer the last one.
                    set_version(&mut body, &current.metadata().resource_version);
                    let patch = Patch::Merge(&body);
                    let parameters = PatchParams {
                        field_manager: field_manager.clone(),
                        ..PatchParams::default()
                    };
                    patiently(|| api.patch(&key.name, &parameters, &patch)).await
                }
                Change::Status(body) => {
                    let parameters = PostParams {
                        field_manager: field_manager.clone(),
                        ..PostParams::default()
                    };
                    patiently(|| api.replace_status(&key.name, &parameters, &body)).await
                }
            };
            match answer {
                Ok(raw) => return object::decode(key.kind, raw).map_err(unreadable),
                Err(failure) if failure.is_conflict() => current = self.read(&api, key).await?,
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Refused {
            code: 409,
            reason: "Conflict".to_owned(),
            message: format!("{key} changed {CONFLICT_RETRIES} times meanwhile"),
        })
    }

    async fn delete(&self, key: &Key, uid: &str) -> Result<Object, Failure> {
        let api = self.api(key.kind, &key.namespace);
        let last = match self.shared.known.get(key) {
            Some(known) if uid.is_empty() || known.metadata().uid == uid => known,
            _ => self.read(&api, key).await?,
        };
        if !uid.is_empty() && last.metadata().uid != uid {
            return Err(missing());
        }
        let uid = last.metadata().uid.clone();
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        });
        match patiently(|| api.delete(&key.name, &parameters)).await {
            Ok(answer) => match answer.left() {
                // There are finalizers still to be done.
                Some(raw) => object::decode(key.kind, raw).map_err(unreadable),
                None => {
                    self.shared.known.remove(key, &uid);
                    Ok(last)
                }
            },
            // Only the uid was a precondition: one of another uid bears the name.
            Err(failure) if failure.is_conflict() => Err(missing()),
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, api: &Api<DynamicObject>, key: &Key) -> Result<Object, Failure> {
        let raw = patiently(|| api.get(&key.name)).await?;
        let object = object::decode(key.kind, raw).map_err(unreadable)?;
        self.shared.known.put(&object);
        Ok(object)
    }
}

/// Sends a request, and again while the server is too busy to look at it. Nothing else is repeated:
/// it may have been carried out.
pub(super) async fn patiently<T, F>(request: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    for pause_ms in THROTTLED_PAUSES_MS {
        match error::within(REQUEST_TIMEOUT, request()).await {
            Err(failure) if failure.is_throttled() => {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await
            }
            result => return result,
        }
    }
    error::within(REQUEST_TIMEOUT, request()).await
}

fn set_version(body: &mut Value, version: &str) {
    let fields = body.as_object_mut();
    let metadata = fields.map(|fields| fields.entry("metadata").or_insert_with(|| json!({})));
    if let Some(Value::Object(metadata)) = metadata {
        metadata.insert("resourceVersion".to_owned(), Value::from(version));
    }
}

fn missing() -> Failure {
    Failure::Refused {
        code: 404,
        reason: "NotFound".to_owned(),
        message: "another object bears the name".to_owned(),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::Silent(error.to_string())
}

/// What is to be sent to change an object.
#[derive(Debug)]
enum Change {
    /// It is as it should be.
    Nothing,
    /// A merge patch.
    Patch(Value),
    /// The object with its new status. The whole of it, for the server takes who owns a field that is left out for
    /// one who gives it up; and not a patch, which costs the server twice as much.
    Status(Box<DynamicObject>),
}

/// The change that makes `status` the whole status.
fn with_status(current: &Object, status: &Status) -> Result<Change, Failure> {
    let mut wanted = current.clone();
    let entered = status.clone().enter(&mut wanted);
    entered.map_err(|error| Failure::Refused {
        code: 400,
        reason: "BadRequest".to_owned(),
        message: error.to_string(),
    })?;
    if wanted == *current {
        return Ok(Change::Nothing);
    }
    let mut raw = object::encode(&wanted).map_err(unreadable)?;
    if let Some(status) = raw.data.get_mut("status").and_then(Value::as_object_mut) {
        break_status(status);
    }
    Ok(Change::Status(Box::new(raw)))
}

/// Deliberate faults.
fn break_status(status: &mut Map<String, Value>) {
    if Breakage::NoScaleStatus.is_on() {
        status.retain(|name, _| name != "selector" && name != "currentReplicas");
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if let (true, Some(condition)) =
            (Breakage::ObservesNothing.is_on(), condition.as_object_mut())
        {
            condition.remove("observedGeneration");
        }
    }
}

/// The change that carries out `patch` on `current`.
fn metadata_patch(current: &Object, patch: &MetadataPatch) -> Change {
    let metadata = current.metadata();
    let mut finalizers = metadata.finalizers.clone();
    if let Some(gone) = patch.remove_finalizer {
        finalizers.retain(|finalizer| finalizer != gone);
    }
    if let Some(new) = patch.add_finalizer
        && !metadata.has_finalizer(new)
        // The API server takes no new finalizer on an object that is being deleted.
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
    match changes.is_empty() {
        true => Change::Nothing,
        false => Change::Patch(json!({ "metadata": changes })),
    }
}

#[cfg(test)]
mod tests;
