//! The workload objects of a replica set.

use crate::api::{Key, Kind, Metadata, OwnerReference, Workload, WorkloadReplicaSet, names};
use crate::revision::fnv1a;

/// Characters of generated names: without vowels, as in revisions, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns the suffix of a generated name. Derived from the owner and an ordinal, so that a
/// creation that is repeated after an unknown outcome finds its name in use instead of creating
/// another object.
pub(in crate::core) fn suffix(owner: &[&str], ordinal: u32) -> String {
    let mut hash = fnv1a(format!("{}/{ordinal}", owner.join("/")).as_bytes());
    let letters = (0..5).map(|_| {
        let letter = ALPHABET.get(hash as usize % ALPHABET.len());
        hash /= 27;
        char::from(letter.copied().unwrap_or(b'x'))
    });
    letters.collect()
}

/// Returns a new workload of a replica set.
pub(super) fn member(set: &WorkloadReplicaSet, key: &Key, revision: &str) -> Workload {
    let template = &set.spec.template;
    let mut metadata = Metadata::named(&*key.namespace, &*key.name);
    metadata.labels.clone_from(&template.labels);
    metadata.annotations.clone_from(&template.annotations);
    let annotation = names::REVISION_ANNOTATION.to_owned();
    metadata.annotations.insert(annotation, revision.to_owned());
    // A template must not assign hosts.
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
