//! The objects that a replica set is made of.

use crate::api::{Key, Kind, Metadata, OwnerReference, Workload, WorkloadReplicaSet, names};
use crate::revision::fnv1a;

/// The characters of generated names: as in revisions, nothing that spells words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The end of a generated name. Made from what it belongs to and a number, so that a creation that is
/// repeated because its end is not known finds the name taken, and is not one too many.
pub(in crate::core) fn suffix(of: &[&str], number: u32) -> String {
    let mut hash = fnv1a(format!("{}/{number}", of.join("/")).as_bytes());
    let letters = (0..5).map(|_| {
        let letter = ALPHABET.get(hash as usize % ALPHABET.len());
        hash /= 27;
        char::from(letter.copied().unwrap_or(b'x'))
    });
    letters.collect()
}

/// A new workload of a replica set.
pub(super) fn member(set: &WorkloadReplicaSet, key: &Key, revision: &str) -> Workload {
    let template = &set.spec.template;
    let mut metadata = Metadata::named(&*key.namespace, &*key.name);
    metadata.labels.clone_from(&template.labels);
    metadata.annotations.clone_from(&template.annotations);
    let annotation = names::REVISION_ANNOTATION.to_owned();
    metadata.annotations.insert(annotation, revision.to_owned());
    // Not a template's to give.
    metadata.annotations.remove(names::PLACED_ANNOTATION);
    metadata.finalizers = vec![names::WORKLOAD_FINALIZER.to_owned()];
    let owner = OwnerReference::controller(Kind::WorkloadReplicaSet, &set.metadata);
    metadata.owner_references = vec![owner];
    Workload {
        metadata,
        spec: template.spec.clone(),
        ..Workload::default()
    }
}
