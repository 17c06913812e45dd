//! The workload objects of a replica set, and the names of generated objects.

use crate::api::{Key, Kind, Metadata, OwnerReference, Workload, WorkloadReplicaSet, names};
use crate::revision::fnv1a;

/// Characters of generated names: without vowels, as in revisions, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Maximum length of the name of an object, as in Kubernetes.
const NAME_BYTES_MAX: usize = 253;
/// Length of the suffix of a generated name, with its hyphen.
const SUFFIX_BYTES: usize = 6;
/// Maximum length of the name of a workload.
pub(super) const WORKLOAD_NAME_BYTES_MAX: usize = NAME_BYTES_MAX;
/// Maximum length of the name of a replica set: leaves room for the suffix of its workloads.
pub(in crate::core) const SET_NAME_BYTES_MAX: usize = NAME_BYTES_MAX - SUFFIX_BYTES;
/// Maximum length of the value of a label.
const LABEL_BYTES_MAX: usize = 63;

/// Returns the name of an object that belongs to `owner`. A name of the owner that is too long is
/// shortened.
pub(in crate::core) fn child_name(owner: &str, suffix: &str, bytes_max: usize) -> String {
    let owner = shortened(owner, bytes_max.saturating_sub(SUFFIX_BYTES));
    format!("{owner}-{suffix}")
}

/// Returns the label of the replica sets of a deployment.
pub(crate) fn deployment_label(deployment: &str) -> (String, String) {
    (names::DEPLOYMENT_LABEL.to_owned(), label_value(deployment))
}

/// Returns a name as the value of a label, shortened if it is too long.
pub(in crate::core) fn label_value(name: &str) -> String {
    shortened(name, LABEL_BYTES_MAX)
}

/// Returns the beginning of a name and a hash of the whole name, so that long names that differ
/// only at their end stay different; a name of at most `bytes_max` bytes is unchanged.
fn shortened(name: &str, bytes_max: usize) -> String {
    if name.len() <= bytes_max {
        return name.to_owned();
    }
    let hash = format!("-{:08x}", fnv1a(name.as_bytes()));
    // The names of objects are ASCII.
    let start = name
        .get(..bytes_max.saturating_sub(hash.len()))
        .unwrap_or_default();
    // A dot before the hyphen would make the name invalid.
    format!("{}{hash}", start.trim_end_matches(['.', '-']))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_stay_different() {
        let suffix = "bcdfg";
        for bytes in [1, 57, 63, 64, 241, 242, 247, 253] {
            let owner = "a".repeat(bytes);
            let set = child_name(&owner, suffix, SET_NAME_BYTES_MAX);
            let workload = child_name(&set, suffix, WORKLOAD_NAME_BYTES_MAX);
            assert!(set.len() <= SET_NAME_BYTES_MAX && workload.len() <= NAME_BYTES_MAX);
            assert!(workload.starts_with(&set), "{workload}");
            assert_eq!(set == format!("{owner}-{suffix}"), bytes <= 241);
        }
        let long = |last| {
            child_name(
                &format!("{}{last}", "a".repeat(252)),
                suffix,
                NAME_BYTES_MAX,
            )
        };
        assert_ne!(long("b"), long("c"));
    }

    #[test]
    fn label_values_fit_and_end_with_letter_or_digit() {
        assert_eq!(label_value("a.b.c"), "a.b.c");
        assert_eq!(label_value(&"a".repeat(63)), "a".repeat(63));
        let dotted = format!("{}.{}", "a".repeat(53), "b".repeat(20));
        for name in [&dotted, &"a".repeat(64), &"a.".repeat(100)] {
            let value = label_value(name);
            assert!(value.len() <= LABEL_BYTES_MAX, "{value}");
            assert!(!value.contains(".-") && value.ends_with(|c: char| c.is_ascii_alphanumeric()));
        }
    }
}
