//! Compares the CRDs of this repository with the facts about the CRDs of wasmCloud's operator, row
//! by row.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const FACTS: &str = include_str!("../data/crd-facts.tsv");
const CRDS: [&str; 5] = [
    include_str!("../../../deploy/crds/artifacts.yaml"),
    include_str!("../../../deploy/crds/hosts.yaml"),
    include_str!("../../../deploy/crds/workloaddeployments.yaml"),
    include_str!("../../../deploy/crds/workloadreplicasets.yaml"),
    include_str!("../../../deploy/crds/workloads.yaml"),
];

/// Fields with stricter validation than in wasmCloud's operator, which fails on the rejected
/// values: it panics for negative replicas, after deleting all workloads, and casts negative
/// restarts to a number that hosts refuse.
const STRICTER: [&str; 5] = [
    "WorkloadDeployment .spec.replicas",
    "WorkloadReplicaSet .spec.replicas",
    "Workload .spec.service.maxRestarts",
    "WorkloadReplicaSet .spec.template.spec.service.maxRestarts",
    "WorkloadDeployment .spec.template.spec.service.maxRestarts",
];

/// Schema of a field.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    kind: String,
    format: String,
    required: bool,
    default: String,
    validation: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Definition {
    plural: String,
    short_names: BTreeSet<String>,
    scope: String,
    scale: Option<BTreeMap<String, String>>,
    has_status: bool,
    /// Name, type and path.
    columns: BTreeSet<String>,
    fields: BTreeMap<String, Field>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn definitions() -> BTreeMap<String, Definition> {
    let parse = |yaml: &&str| {
        let definition: Value = serde_saphyr::from_str(yaml).expect("YAML");
        let (spec, version) = (&definition["spec"], &definition["spec"]["versions"][0]);
        let names = &spec["names"];
        assert_eq!(spec["group"], "runtime.wasmcloud.dev");
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(
            definition["metadata"]["name"],
            format!("{}.runtime.wasmcloud.dev", text(&names["plural"]))
        );
        let columns = version["additionalPrinterColumns"]
            .as_array()
            .expect("columns")
            .iter();
        let mut fields = BTreeMap::new();
        flatten(
            "",
            &version["schema"]["openAPIV3Schema"],
            false,
            &mut fields,
        );
        let scale = version["subresources"]["scale"].as_object();
        let definition = Definition {
            plural: text(&names["plural"]),
            short_names: names["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect(),
            scope: text(&spec["scope"]),
            scale: scale.map(|scale| {
                scale
                    .iter()
                    .map(|(key, value)| (key.clone(), text(value)))
                    .collect()
            }),
            has_status: version["subresources"]["status"].is_object(),
            columns: columns
                .map(|column| {
                    format!(
                        "{} {} {}",
                        text(&column["name"]),
                        text(&column["type"]),
                        text(&column["jsonPath"])
                    )
                })
                .collect(),
            fields,
        };
        (text(&names["kind"]), definition)
    };
    CRDS.iter().map(parse).collect()
}

/// Collects a schema and all its fields. A field of the object at `path` is at `path.name`.
fn flatten(path: &str, schema: &Value, required: bool, into: &mut BTreeMap<String, Field>) {
    let mut validation = BTreeSet::new();
    for rule in [
        "minimum",
        "minItems",
        "maxItems",
        "maxLength",
        "x-kubernetes-map-type",
    ] {
        if let Some(value) = schema.get(rule) {
            validation.insert(format!(
                "{rule}={}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            ));
        }
    }
    validation.extend(
        schema
            .get("pattern")
            .map(|pattern| format!("pattern={}", text(pattern))),
    );
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        validation.insert(format!("CEL: {}", text(&rule["rule"])));
    }
    let default = match schema.get("default") {
        None => String::new(),
        Some(Value::String(text)) => format!("'{text}'"),
        Some(other) => other.to_string(),
    };
    let field = Field {
        kind: text(&schema["type"]),
        format: text(&schema["format"]),
        required,
        default,
        validation,
    };
    if !path.is_empty() {
        into.insert(path.to_owned(), field);
    }
    let required: BTreeSet<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        flatten(
            &format!("{path}.{name}"),
            field,
            required.contains(name),
            into,
        );
    }
    if let Some(items) = schema.get("items") {
        flatten(&format!("{path}[]"), items, false, into);
    }
    if let Some(values) = schema.get("additionalProperties") {
        flatten(&format!("{path}{{}}"), values, false, into);
    }
}

/// Splits the rules of a row. The separator is ` | ` for CEL rules and `; ` for other rules.
fn rules(column: &str) -> BTreeSet<String> {
    let (plain, cel) = column.split_at(column.find("CEL: ").unwrap_or(column.len()));
    let plain = plain
        .trim_end_matches(" | ")
        .split("; ")
        .filter(|rule| !rule.is_empty());
    let cel = cel
        .split(" | CEL: ")
        .map(|rule| rule.trim_start_matches("CEL: "))
        .filter(|rule| !rule.is_empty());
    plain
        .map(str::to_owned)
        .chain(cel.map(|rule| format!("CEL: {rule}")))
        .collect()
}

fn field_of(row: &[&str]) -> Field {
    let [kind, format, required, default, validation] = row else {
        panic!("expected five columns in {row:?}")
    };
    Field {
        kind: (*kind).to_owned(),
        format: (*format).to_owned(),
        required: *required == "yes",
        default: (*default).to_owned(),
        validation: rules(validation),
    }
}

/// Checks names, scope, subresources and columns: the CRDs of this repository include all columns
/// of wasmCloud's operator.
fn check_definition(kind: &str, property: &str, row: &str, definition: &Definition) {
    match property {
        "(names)" => {
            let [plural, short, scope] = row.split(' ').collect::<Vec<_>>()[..] else {
                panic!("expected three names in {row}")
            };
            assert_eq!(plural, format!("plural={}", definition.plural));
            assert_eq!(scope, format!("scope={}", definition.scope));
            let short = short.trim_start_matches("short=");
            assert!(
                short.is_empty() || definition.short_names.contains(short),
                "{kind} lacks the short name {short}"
            );
        }
        "(subresources)" => {
            assert!(definition.has_status, "{kind} lacks the status subresource");
            assert_eq!(
                row.contains("'scale'"),
                definition.scale.is_some(),
                "{kind} and its scale subresource"
            );
            for (key, path) in definition.scale.iter().flatten() {
                assert!(
                    row.contains(&format!("'{key}': '{path}'")),
                    "{kind} scales by {key} {path}"
                );
            }
        }
        "(column)" => assert!(
            definition.columns.contains(row),
            "{kind} lacks the column {row}"
        ),
        other => panic!("unknown property {other} of {kind}"),
    }
}

#[test]
fn every_field_is_the_same_as_in_operator() {
    let definitions = definitions();
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in FACTS.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        let [kind, path, rest @ ..] = &row[..] else {
            panic!("expected columns in {line}")
        };
        let definition = definitions
            .get(*kind)
            .unwrap_or_else(|| panic!("missing CRD of {kind}"));
        if path.starts_with('(') {
            check_definition(kind, path, rest[0], definition);
            continue;
        }
        seen.entry(kind).or_default().insert(path);
        let field = definition
            .fields
            .get(*path)
            .unwrap_or_else(|| panic!("{kind} lacks {path}"));
        let mut expected = field_of(rest);
        if STRICTER.contains(&format!("{kind} {path}").as_str()) {
            expected.validation.insert("minimum=0".to_owned());
        }
        assert_eq!(*field, expected, "{kind} {path}");
    }
    for (kind, definition) in &definitions {
        let known = &seen[kind.as_str()];
        let extra: Vec<_> = definition
            .fields
            .keys()
            .filter(|path| !known.contains(path.as_str()))
            .collect();
        assert!(
            extra.is_empty(),
            "{kind} has fields that wasmCloud's operator lacks: {extra:?}"
        );
    }
}
