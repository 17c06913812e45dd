//! What a manifest in the directory does to the object of its name; no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::document::Reference;
use super::objects::{Change, Objects, Stamp};
use crate::api::{Key, Object};
use crate::core::WriteError;
use crate::store::Secret;

/// The annotation that says which file an object comes from.
const ORIGIN: &str = "berth.dev/manifest";
/// The annotation that lists the annotations that its file gave it: one that goes from there goes here.
const GIVEN: &str = "berth.dev/manifest-annotations";

/// What the files want, all together.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The objects, and the file of each.
    pub objects: BTreeMap<Key, (Object, String)>,
    /// What can be referred to.
    pub config_maps: BTreeMap<Reference, BTreeMap<String, String>>,
    /// What can be referred to.
    pub secrets: BTreeMap<Reference, Secret>,
    /// Files that cannot be read now; what came from them stays as it is.
    pub broken: BTreeSet<String>,
}

/// The objects whose manifests are gone.
pub(super) fn unwanted(objects: &Objects, wanted: &Wanted) -> Vec<Key> {
    let is_unwanted = |object: &&Object| {
        let origin = object.metadata().annotations.get(ORIGIN);
        origin.is_some_and(|origin| !wanted.broken.contains(origin))
            // Copied from its owner, by a scheduler that passes annotations on.
            && object.metadata().controller().is_none()
            && !object.metadata().is_deleting()
            && !wanted.objects.contains_key(&object.key())
    };
    let unwanted = objects.all().filter(is_unwanted);
    unwanted.map(Object::key).collect()
}

/// The object without what is noted here of its owner's manifest, which the core passes on with other annotations.
pub(super) fn without_origin(mut object: Object) -> Object {
    let annotations = &mut object.metadata_mut().annotations;
    annotations.remove(ORIGIN);
    annotations.remove(GIVEN);
    object
}

/// What becomes of the object that a manifest describes. One that is being deleted is left alone: its successor
/// comes when it is gone.
pub(super) fn apply(
    objects: &Objects,
    manifest: &Object,
    origin: &str,
    stamp: Stamp,
) -> Result<Change, WriteError> {
    let Some(current) = objects.get(&manifest.key()) else {
        let mut object = manifest.clone();
        let metadata = object.metadata_mut();
        metadata.finalizers.clear();
        metadata.owner_references.clear();
        metadata.annotations = annotations(&BTreeMap::new(), &metadata.annotations, origin);
        return objects.create(object, stamp);
    };
    if current.metadata().is_deleting() {
        return Ok(Change::Nothing(current.clone()));
    }
    if let Some(owner) = current.metadata().controller() {
        return Err(WriteError::Refused(format!(
            "an object of its name is there and belongs to {} {}",
            owner.kind, owner.name
        )));
    }
    let mut object = manifest.clone();
    let given = &manifest.metadata().annotations;
    *object.metadata_mut() = current.metadata().clone();
    let metadata = object.metadata_mut();
    metadata.labels.clone_from(&manifest.metadata().labels);
    metadata.annotations = annotations(&current.metadata().annotations, given, origin);
    keep_status(current, &mut object);
    if spec(&object) != spec(current) {
        object.metadata_mut().generation += 1;
    }
    Ok(objects.put_if_changed(current, object))
}

/// The annotations of the manifest, and those that others set.
fn annotations(
    current: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
    origin: &str,
) -> BTreeMap<String, String> {
    let before = current.get(GIVEN).map(String::as_str).unwrap_or_default();
    let before: BTreeSet<&str> = before.split(',').collect();
    let mut merged = current.clone();
    merged.retain(|name, _| name != GIVEN && !before.contains(name.as_str()));
    merged.extend(
        given
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    if !given.is_empty() {
        let names: Vec<&str> = given.keys().map(String::as_str).collect();
        merged.insert(GIVEN.to_owned(), names.join(","));
    }
    merged.insert(ORIGIN.to_owned(), origin.to_owned());
    merged
}

fn keep_status(current: &Object, object: &mut Object) {
    match (object, current) {
        (Object::Workload(new), Object::Workload(old)) => {
            Arc::make_mut(new).status.clone_from(&old.status);
        }
        (Object::ReplicaSet(new), Object::ReplicaSet(old)) => {
            Arc::make_mut(new).status.clone_from(&old.status);
        }
        (Object::Deployment(new), Object::Deployment(old)) => {
            Arc::make_mut(new).status.clone_from(&old.status);
        }
        (Object::Artifact(new), Object::Artifact(old)) => {
            Arc::make_mut(new).status.clone_from(&old.status);
        }
        // There are no manifests of hosts, and a key has one kind.
        _ => {}
    }
}

fn spec(object: &Object) -> Option<serde_json::Value> {
    object.to_value().ok()?.get("spec").cloned()
}

#[cfg(test)]
mod tests;
