//! The field names of a start request, for suggestions.

/// JSON names of the fields of a `WorkloadStartRequest` and all messages in it.
const NAMES: [&str; 36] = [
    "allowedHostLoopbackPorts",
    "allowedHosts",
    "allowedIpNameLookups",
    "annotations",
    "components",
    "config",
    "cpuLimit",
    "emptyDir",
    "environment",
    "hostInterfaces",
    "hostPath",
    "image",
    "imagePullPolicy",
    "imagePullSecret",
    "interfaces",
    "localPath",
    "localResources",
    "maxConcurrency",
    "maxInvocations",
    "maxRestarts",
    "memoryLimitMb",
    "mountPath",
    "name",
    "namespace",
    "package",
    "password",
    "poolSize",
    "readOnly",
    "service",
    "username",
    "version",
    "volumeMounts",
    "volumes",
    "witWorld",
    "workload",
    "workloadId",
];

/// Smallest similarity of a suggestion, between 0 and 1: one or two typing errors in a name.
const MIN_SIMILARITY: f64 = 0.85;

/// Returns the field name that is most similar to an unknown one, if any is similar.
pub fn nearest(unknown: &str) -> Option<&'static str> {
    NAMES
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;

    #[test]
    fn names_are_those_of_the_schema() {
        let schema = include_str!("../../../proto/schema.tsv");
        let mut fields: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
        for row in schema
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
        {
            if row[1] == "field" {
                fields.entry(row[2]).or_default().push((row[8], row[5]));
            }
        }
        let (mut names, mut pending) = (BTreeSet::new(), vec!["WorkloadStartRequest"]);
        while let Some(message) = pending.pop() {
            for (name, field_type) in fields.remove(message).unwrap_or_default() {
                names.insert(name);
                pending.push(field_type.rsplit('.').next().unwrap());
            }
        }
        assert_eq!(names, NAMES.into_iter().collect());
    }

    #[test]
    fn suggests_near_spellings_only() {
        for (unknown, expected) in [
            ("maxRestart", Some("maxRestarts")),
            ("poolsize", Some("poolSize")),
            ("component", Some("components")),
            ("allowedHost", Some("allowedHosts")),
            ("replicas", None),
        ] {
            assert_eq!(nearest(unknown), expected, "{unknown}");
        }
    }
}
