//! Compares documents with the schemas of the CRDs: unknown fields and values of a wrong type, each
//! with its path and position, without I/O.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::located::{Located, Node, Position};
use crate::api::{API_VERSION, Kind};

/// Minimum similarity of a known name that is suggested for an unknown one.
const SIMILARITY_MIN: f64 = 0.8;

/// The CRDs, which users install on Kubernetes.
const CRDS: [(Kind, &str); 5] = [
    (
        Kind::Host,
        include_str!("../../../../deploy/crds/hosts.yaml"),
    ),
    (
        Kind::Workload,
        include_str!("../../../../deploy/crds/workloads.yaml"),
    ),
    (
        Kind::WorkloadReplicaSet,
        include_str!("../../../../deploy/crds/workloadreplicasets.yaml"),
    ),
    (
        Kind::WorkloadDeployment,
        include_str!("../../../../deploy/crds/workloaddeployments.yaml"),
    ),
    (
        Kind::Artifact,
        include_str!("../../../../deploy/crds/artifacts.yaml"),
    ),
];

/// A field that is not as its schema says. Contains no values, which may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub at: Position,
    /// Path of the field, such as `spec.template.spec.components[0].image`.
    pub path: String,
    pub problem: Problem,
}

/// Problem of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The kind does not have the field, which is ignored. The suggestion is a similar name.
    Unknown { suggestion: Option<String> },
    /// A required field is not set.
    Missing,
    /// The value has another type; both types are with an article.
    WrongType {
        found: &'static str,
        expected: &'static str,
    },
    /// The number is negative. A new object is reported as invalid, and an existing one stays as it
    /// was.
    Negative,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: ", self.at, self.path)?;
        match &self.problem {
            Problem::Unknown { suggestion: None } => f.write_str("unknown field, ignored"),
            Problem::Unknown {
                suggestion: Some(name),
            } => write!(f, "unknown field, ignored; did you mean {name}?"),
            Problem::Missing => f.write_str("required, but not set"),
            Problem::Negative => f.write_str("a negative number"),
            Problem::WrongType { found, expected } => {
                write!(f, "{found}, expected {expected}")?;
                let is_scalar = !matches!(*found, "a list" | "a mapping");
                if *expected == "a string" && is_scalar {
                    f.write_str("; put it in quotes")?;
                }
                Ok(())
            }
        }
    }
}

/// Returns everything in an object of `kind` that is not as its schema says.
pub(super) fn check_object(kind: Kind, document: &Located) -> Vec<Finding> {
    let schema = SCHEMAS.get(&kind).unwrap_or(&Value::Null);
    check(document, schema)
}

/// Returns everything in a ConfigMap that is not as its schema says.
pub(super) fn check_config_map(document: &Located) -> Vec<Finding> {
    check(document, &CONFIG_MAP)
}

/// Returns everything in a Secret that is not as its schema says.
pub(super) fn check_secret(document: &Located) -> Vec<Finding> {
    check(document, &SECRET)
}

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
    let schemas = CRDS.iter().map(|(kind, text)| {
        let crd: Value = serde_saphyr::from_str(text).unwrap_or_default();
        let schema = "/spec/versions/0/schema/openAPIV3Schema";
        let mut schema = crd.pointer(schema).cloned().unwrap_or_default();
        if let Some(metadata) = schema.pointer_mut("/properties/metadata") {
            *metadata = metadata_schema();
        }
        (*kind, schema)
    });
    schemas.collect()
});

static CONFIG_MAP: LazyLock<Value> = LazyLock::new(|| {
    json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata_schema(),
        "data": strings(), "binaryData": strings(), "immutable": {"type": "boolean"},
    }})
});

static SECRET: LazyLock<Value> = LazyLock::new(|| {
    json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata_schema(),
        "data": strings(), "stringData": strings(), "type": {"type": "string"},
        "immutable": {"type": "boolean"},
    }})
});

/// Returns the schema of `metadata`, which CRDs do not repeat.
fn metadata_schema() -> Value {
    let text = || json!({"type": "string"});
    json!({"type": "object", "properties": {
        "name": text(), "namespace": text(), "generateName": text(), "labels": strings(),
        "annotations": strings(), "finalizers": {"type": "array", "items": text()},
        "uid": text(), "resourceVersion": text(), "selfLink": text(),
        "generation": {"type": "integer"}, "deletionGracePeriodSeconds": {"type": "integer"},
        "creationTimestamp": text(), "deletionTimestamp": text(),
        "ownerReferences": {"type": "array"}, "managedFields": {"type": "array"},
    }})
}

fn strings() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn check(document: &Located, schema: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    compare(document, schema, "", &mut findings);
    findings
}

fn compare(found: &Located, schema: &Value, path: &str, findings: &mut Vec<Finding>) {
    // Null is an unset field, as on Kubernetes.
    if found.is_null() {
        return;
    }
    if let Some(expected) = mismatch(found, schema) {
        findings.push(Finding {
            at: found.at,
            path: path.to_owned(),
            problem: Problem::WrongType {
                found: found.type_name(),
                expected,
            },
        });
        return;
    }
    match &found.value {
        Node::Scalar(number) => {
            let is_unsigned = schema.get("minimum").and_then(Value::as_i64) == Some(0);
            if is_unsigned && number.as_i64().is_some_and(i64::is_negative) {
                findings.push(Finding {
                    at: found.at,
                    path: path.to_owned(),
                    problem: Problem::Negative,
                });
            }
        }
        Node::List(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    compare(item, schema, &format!("{path}[{index}]"), findings);
                }
            }
        }
        Node::Mapping(fields) => {
            for (at, name, value) in fields {
                compare_field((*at, name, value), schema, path, findings);
            }
            let required = schema.get("required").and_then(Value::as_array);
            for name in required.into_iter().flatten().filter_map(Value::as_str) {
                if found.field(name).is_none_or(Located::is_null) {
                    findings.push(Finding {
                        at: found.at,
                        path: join(path, name),
                        problem: Problem::Missing,
                    });
                }
            }
        }
    }
}

fn compare_field(
    (at, name, value): (Position, &str, &Located),
    schema: &Value,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    let path = join(path, name);
    if let Some(schema) = schema.get("additionalProperties") {
        return compare(value, schema, &path, findings);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    match properties.get(name) {
        Some(schema) => compare(value, schema, &path, findings),
        None => findings.push(Finding {
            at,
            path,
            problem: Problem::Unknown {
                suggestion: similar(name, properties.keys()),
            },
        }),
    }
}

fn join(path: &str, name: &str) -> String {
    let separator = if path.is_empty() { "" } else { "." };
    format!("{path}{separator}{name}")
}

/// Returns the expected type, with an article, if the value has another type.
fn mismatch(found: &Located, schema: &Value) -> Option<&'static str> {
    let expected = schema.get("type").and_then(Value::as_str)?;
    let (is_expected, article) = match (expected, &found.value) {
        ("string", node) => (matches!(node, Node::Scalar(Value::String(_))), "a string"),
        ("boolean", node) => (matches!(node, Node::Scalar(Value::Bool(_))), "a boolean"),
        ("integer", Node::Scalar(Value::Number(number))) => {
            let is_32_bit = schema.get("format").and_then(Value::as_str) == Some("int32");
            let fits = number
                .as_i64()
                .is_some_and(|number| !is_32_bit || i32::try_from(number).is_ok());
            (
                fits,
                if is_32_bit {
                    "a 32-bit whole number"
                } else {
                    "a whole number"
                },
            )
        }
        ("integer", _) => (false, "a whole number"),
        ("number", node) => (matches!(node, Node::Scalar(Value::Number(_))), "a number"),
        ("array", node) => (matches!(node, Node::List(_)), "a list"),
        ("object", node) => (matches!(node, Node::Mapping(_)), "a mapping"),
        _ => (true, ""),
    };
    (!is_expected).then_some(article)
}

/// Returns the known name that is most similar to an unknown one, if any is similar enough.
pub(super) fn similar<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let name = name.to_lowercase();
    let similarity = |known: &String| strsim::jaro_winkler(&name, &known.to_lowercase());
    let best = known.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(best) >= SIMILARITY_MIN).then(|| best.clone())
}

/// Returns an error that names the kind or version that is similar to an unknown one.
pub(super) fn unknown_kind(version: &str, kind: &str) -> String {
    if version != API_VERSION {
        return format!("apiVersion {version:?} is not {API_VERSION}");
    }
    let known: Vec<String> = Kind::ALL.map(|kind| kind.as_str().to_owned()).into();
    match similar(kind, known.iter()) {
        Some(name) => format!("unknown kind {kind:?}; did you mean {name}?"),
        None => format!("unknown kind {kind:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::dir::located;

    fn findings(kind: Kind, text: &str) -> Vec<String> {
        let documents = located::parse(text).unwrap();
        let mut findings = check_object(kind, &documents[0]);
        findings.retain(|finding| finding.problem != Problem::Missing);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_has_a_schema() {
        for kind in Kind::ALL {
            let schema = &SCHEMAS[&kind];
            let properties = schema["properties"].as_object().unwrap();
            assert!(properties.contains_key("metadata"), "{kind}");
            assert_eq!(
                schema["properties"]["metadata"]["properties"]["name"]["type"],
                "string"
            );
        }
    }

    #[test]
    fn names_unknown_fields_with_similar_ones() {
        let text = "apiVersion: a\nkind: b\nmetadata:\n  name: hello\n  label: {a: b}\n  labels: {any: b}\n  \
            annotations: {any/thing: b}\nspec:\n  replica: 3\n  template:\n    spec:\n      components:\n      \
            - name: a\n        image: b\n        imagePullPolcy: Always\n        localResources:\n          \
            memoryLimitMB: 64\n          environment:\n            config: {ANY: x}\n      hostinterfaces: []\n";
        assert_eq!(
            findings(Kind::WorkloadDeployment, text),
            [
                "line 5, column 3: metadata.label: unknown field, ignored; did you mean labels?",
                "line 9, column 3: spec.replica: unknown field, ignored; did you mean replicas?",
                "line 15, column 9: spec.template.spec.components[0].imagePullPolcy: unknown field, ignored; \
                 did you mean imagePullPolicy?",
                "line 17, column 11: spec.template.spec.components[0].localResources.memoryLimitMB: unknown \
                 field, ignored",
                "line 20, column 7: spec.template.spec.hostinterfaces: unknown field, ignored; did you mean \
                 hostInterfaces?",
            ]
        );
    }

    #[test]
    fn names_both_types_and_no_value() {
        let component = "spec:\n  template:\n    spec:\n      components:\n";
        for (text, expected) in [
            (
                "spec:\n  replicas: \"3\"\n",
                "line 2, column 13: spec.replicas: a string, expected a whole number",
            ),
            (
                "spec:\n  replicas: -1\n",
                "line 2, column 13: spec.replicas: a negative number",
            ),
            (
                "spec:\n  replicas: 3000000000\n",
                "line 2, column 13: spec.replicas: a number, expected a 32-bit whole number",
            ),
            (
                "spec:\n  template: [a]\n",
                "line 2, column 13: spec.template: a list, expected a mapping",
            ),
            (
                &format!("{component}        name: a\n"),
                "line 5, column 9: spec.template.spec.components: a mapping, expected a list",
            ),
            (
                &format!("{component}      - localResources: {{allowedHosts: example.com}}\n"),
                "line 5, column 40: spec.template.spec.components[0].localResources.allowedHosts: a string, \
                 expected a list",
            ),
            (
                &format!(
                    "{component}      - localResources: {{environment: {{config: {{PORT: 8080}}}}}}\n"
                ),
                "line 5, column 55: spec.template.spec.components[0].localResources.environment.config.PORT: \
                 a number, expected a string; put it in quotes",
            ),
        ] {
            let findings = findings(Kind::WorkloadDeployment, text);
            assert_eq!(findings, [expected]);
        }
        assert_eq!(
            findings(Kind::WorkloadDeployment, "spec: {replicas: null}\n").len(),
            0
        );
    }

    #[test]
    fn suggests_kinds() {
        assert!(
            unknown_kind(API_VERSION, "WorkloadDeploymnt").ends_with("mean WorkloadDeployment?")
        );
        assert!(unknown_kind("runtime.wasmcloud.dev/v2", "Workload").contains("/v2"));
    }
}
