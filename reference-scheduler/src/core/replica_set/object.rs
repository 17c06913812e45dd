//! The workload objects of a replica set.

use crate::api::{Key, Kind, Metadata, OwnerReference, Workload, WorkloadReplicaSet, names};
use crate::revision::fnv1a;

/// Characters of generated names: without vowels, as in revisions, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns the suffix of a generated name. The suffix depends only on the owner and a number. A
/// creation that is repeated after an unknown outcome therefore finds its name in use and does not
/// create another object.
pub(in crate::core) fn name_suffix(owner: &[&str], number: u32) -> String {
    let mut hash = fnv1a(format!("{}/{number}", owner.join("/")).as_bytes());
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
    metadata.annotations.remove(names::PLACED_ON_ANNOTATION);
    metadata.finalizers = vec![names::WORKLOAD_FINALIZER.to_owned()];
    let owner = OwnerReference::controller(Kind::WorkloadReplicaSet, &set.metadata);
    metadata.owner_references = vec![owner];
    Workload {
        metadata,
        spec: template.spec.clone(),
        ..Workload::default()
    }
}
