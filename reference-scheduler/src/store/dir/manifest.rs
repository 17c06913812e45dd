//! Effects of manifests on objects, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::notice::{Notice, set_notice};
use super::objects::{Change, Objects, WriteContext};
use super::parser::Reference;
use crate::api::{Key, Object, Timestamp};
use crate::core::StoreError;
use crate::store::Secret;

/// Annotation with the file that defines an object.
const ORIGIN_ANNOTATION: &str = "berth.dev/manifest";
/// Annotation that lists the annotations from the file. An annotation that is removed from the file
/// is also removed from the object.
const NAMES_ANNOTATION: &str = "berth.dev/manifest-annotations";

/// Content of all manifest files.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// Objects.
    pub objects: BTreeMap<Key, Manifest>,
    /// ConfigMaps that objects refer to, each with its origin.
    pub config_maps: BTreeMap<Reference, (String, BTreeMap<String, String>)>,
    /// Secrets that objects refer to, each with its origin.
    pub secrets: BTreeMap<Reference, (String, Secret)>,
    /// Files of which no valid content is known yet, each with the reason. Their objects stay
    /// unchanged.
    pub unread_files: BTreeMap<String, String>,
    /// Problems for users, by file, directory or document.
    pub problems: BTreeMap<String, String>,
    /// Kinds of the documents that are ignored, by file.
    pub ignored: BTreeMap<String, String>,
}

/// The manifest of an object.
#[derive(Debug)]
pub(super) struct Manifest {
    pub object: Object,
    /// The file that defines the object.
    pub file: String,
    /// The file and the position in it.
    pub origin: String,
    pub notice: Option<Notice>,
    /// Whether no change of an existing object takes effect. A new object is created, so that its
    /// status tells the reason.
    pub is_refused: bool,
}

/// Returns the objects whose manifests are gone.
pub(super) fn without_manifest(objects: &Objects, manifests: &Manifests) -> Vec<Key> {
    let is_without_manifest = |object: &&Object| {
        let origin = object.metadata().annotations.get(ORIGIN_ANNOTATION);
        origin.is_some_and(|origin| !manifests.unread_files.contains_key(origin))
            // With an owner, the annotation was copied from the owner.
            && object.metadata().controller().is_none()
            && !object.metadata().is_deleting()
            && !manifests.objects.contains_key(&object.key())
    };
    let found = objects.all().filter(is_without_manifest);
    found.map(Object::key).collect()
}

/// Removes the annotations of this module, which the core has copied from the owner of the object.
pub(super) fn without_origin(mut object: Object) -> Object {
    let annotations = &mut object.metadata_mut().annotations;
    annotations.remove(ORIGIN_ANNOTATION);
    annotations.remove(NAMES_ANNOTATION);
    object
}

/// Returns the effect of a manifest on its object. An object that is being deleted stays unchanged;
/// once it is gone, the manifest creates a new object.
pub(super) fn apply(
    objects: &Objects,
    manifest: &Manifest,
    unread_files: &BTreeMap<String, String>,
    context: WriteContext,
) -> Result<Change, StoreError> {
    let file = manifest.file.as_str();
    let (notice, now) = (manifest.notice.as_ref(), context.now);
    let is_refused = manifest.is_refused;
    let manifest = &manifest.object;
    let Some(current) = objects.get(&manifest.key()) else {
        let mut object = manifest.clone();
        let metadata = object.metadata_mut();
        metadata.finalizers.clear();
        metadata.owner_references.clear();
        metadata.annotations = annotations(&BTreeMap::new(), &metadata.annotations, file);
        return objects.create(object, context).map(|change| match change {
            Change::Put(mut object) => {
                set_notice(&mut object, notice, now);
                Change::Put(object)
            }
            other => other,
        });
    };
    let before = current.metadata().annotations.get(ORIGIN_ANNOTATION);
    let is_unread =
        before.is_some_and(|before| before != file && unread_files.contains_key(before));
    // An invalid file changes nothing, so no other file takes over its objects.
    if current.metadata().is_deleting() || is_unread {
        return Ok(Change::Unchanged(current.clone()));
    }
    if let Some(owner) = current.metadata().controller() {
        return Err(StoreError::Refused(format!(
            "an object of this name exists and is owned by {} {}",
            owner.kind, owner.name
        )));
    }
    if is_refused {
        let mut object = current.clone();
        set_notice(&mut object, notice, now);
        return Ok(objects.put_if_changed(current, object));
    }
    let mut object = manifest.clone();
    let from_manifest = &manifest.metadata().annotations;
    *object.metadata_mut() = current.metadata().clone();
    let metadata = object.metadata_mut();
    metadata.labels.clone_from(&manifest.metadata().labels);
    metadata.annotations = annotations(&current.metadata().annotations, from_manifest, file);
    copy_status(current, &mut object);
    set_notice(&mut object, notice, now);
    if spec(&object) != spec(current) {
        object.metadata_mut().generation += 1;
    }
    Ok(objects.put_if_changed(current, object))
}

/// Returns the changes of the objects whose file is not read yet: their status tells the problem of
/// the file.
pub(super) fn explain_unread(
    objects: &Objects,
    manifests: &Manifests,
    now: Timestamp,
) -> Vec<Change> {
    let explained = objects.all().filter_map(|current| {
        let metadata = current.metadata();
        let file = metadata.annotations.get(ORIGIN_ANNOTATION)?;
        let is_manifest = metadata.controller().is_none();
        let problem = manifests.unread_files.get(file).filter(|_| is_manifest)?;
        let mut object = current.clone();
        set_notice(&mut object, Some(&Notice::invalid(file, problem)), now);
        Some(objects.put_if_changed(current, object))
    });
    explained.collect()
}

/// Merges the annotations of the manifest with the annotations that other programs have set.
fn annotations(
    current: &BTreeMap<String, String>,
    from_manifest: &BTreeMap<String, String>,
    origin: &str,
) -> BTreeMap<String, String> {
    let previous = current
        .get(NAMES_ANNOTATION)
        .map(String::as_str)
        .unwrap_or_default();
    let previous: BTreeSet<&str> = previous.split(',').collect();
    let mut merged = current.clone();
    merged.retain(|name, _| name != NAMES_ANNOTATION && !previous.contains(name.as_str()));
    merged.extend(
        from_manifest
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    if !from_manifest.is_empty() {
        let names: Vec<&str> = from_manifest.keys().map(String::as_str).collect();
        merged.insert(NAMES_ANNOTATION.to_owned(), names.join(","));
    }
    merged.insert(ORIGIN_ANNOTATION.to_owned(), origin.to_owned());
    merged
}

fn copy_status(current: &Object, object: &mut Object) {
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
        // Hosts have no manifests, and both objects are of the same kind.
        _ => {}
    }
}

fn spec(object: &Object) -> Option<serde_json::Value> {
    object.to_value().ok()?.get("spec").cloned()
}

#[cfg(test)]
mod tests;
