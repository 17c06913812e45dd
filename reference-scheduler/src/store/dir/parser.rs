//! Parses manifests: the YAML or JSON documents of one file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::located::{self, Located, Node, Position};
use super::name::{is_label, is_subdomain};
use super::schema::{self, Finding, Problem};
use crate::api::{API_VERSION, GROUP, Kind, Object};
use crate::store::Secret;

/// Namespace of a manifest without one, as with `kubectl`.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Maximum depth of nested lists, more than the usual one level.
const LIST_DEPTH_MAX: usize = 4;

/// Maximum number of problems of a document in a message, more than anyone repairs at once.
const FINDINGS_MAX: usize = 5;

/// A document of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub at: Position,
    pub content: Content,
    /// Fields that are ignored because its kind does not have them.
    pub unknown_fields: Option<String>,
    /// Numbers that must not be negative: no change of an existing object takes effect.
    pub negative_numbers: Option<String>,
}

/// The content of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// An object of the API group [`GROUP`].
    Object(Object),
    /// A ConfigMap and its data.
    ConfigMap(Reference, BTreeMap<String, String>),
    /// A Secret.
    Secret(Reference, Secret),
    /// Any other kind, which is ignored.
    Other(String),
}

/// Namespace and name of a ConfigMap or Secret.
pub(super) type Reference = (String, String);

/// Error of [`parse`]: the position, the path of the field and the reason. It contains no values,
/// which may be secrets.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ParseError(String);

/// Parses all documents of a file and skips empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, ParseError> {
    let mut documents = Vec::new();
    for document in located::parse(text).map_err(ParseError)? {
        parse_document(&document, &mut documents, 0).map_err(ParseError)?;
    }
    Ok(documents)
}

fn parse_document(
    document: &Located,
    documents: &mut Vec<Document>,
    depth: usize,
) -> Result<(), String> {
    if document.is_null() {
        return Ok(());
    }
    let at = document.at;
    if !matches!(document.value, Node::Mapping(_)) {
        return Err(format!(
            "{at}: {}, expected a mapping",
            document.type_name()
        ));
    }
    let (version, kind) = (document.text("apiVersion"), document.text("kind"));
    if version.is_empty() || kind.is_empty() {
        return Err(format!("{at}: apiVersion or kind is missing"));
    }
    let (content, findings) = match (version, kind) {
        ("v1", "List") => return parse_list(document, documents, depth),
        ("v1", "ConfigMap") => {
            let findings = schema::check_config_map(document);
            reject_wrong_types(&findings)?;
            let data = strings(document, "data");
            (Content::ConfigMap(reference(document)?, data), findings)
        }
        ("v1", "Secret") => {
            let findings = schema::check_secret(document);
            reject_wrong_types(&findings)?;
            let secret = secret(document)?;
            (Content::Secret(reference(document)?, secret), findings)
        }
        _ if version.split('/').next() == Some(GROUP) => object(document, version, kind)?,
        _ => (Content::Other(format!("{version} {kind}")), Vec::new()),
    };
    let is_unknown = |finding: &Finding| matches!(finding.problem, Problem::Unknown { .. });
    documents.push(Document {
        at,
        content,
        unknown_fields: message(&findings, is_unknown),
        negative_numbers: message(&findings, |finding| finding.problem == Problem::Negative),
    });
    Ok(())
}

fn parse_list(list: &Located, documents: &mut Vec<Document>, depth: usize) -> Result<(), String> {
    if depth == LIST_DEPTH_MAX {
        return Err(format!("{}: lists are nested too deeply", list.at));
    }
    let items = list.field("items").map(|items| &items.value);
    let Some(Node::List(items)) = items else {
        return Err(format!("{}: items of the list are missing", list.at));
    };
    for item in items {
        parse_document(item, documents, depth + 1)?;
    }
    Ok(())
}

fn object(
    document: &Located,
    version: &str,
    kind: &str,
) -> Result<(Content, Vec<Finding>), String> {
    let at = document.at;
    let known = kind.parse::<Kind>().ok();
    let Some(kind) = known.filter(|_| version == API_VERSION) else {
        return Err(format!("{at}: {}", schema::unknown_kind(version, kind)));
    };
    if kind == Kind::Host {
        return Err(format!(
            "{at}: a Host cannot be defined in a manifest: hosts are created from heartbeats"
        ));
    }
    let findings = schema::check_object(kind, document);
    reject_wrong_types(&findings)?;
    let mut object = Object::from_value(document.to_value()).map_err(|error| {
        let is_missing = |finding: &Finding| finding.problem == Problem::Missing;
        let reason = || format!("{at}: {}", berth_sdk::cli::error_chain(&error));
        message(&findings, is_missing).unwrap_or_else(reason)
    })?;
    let (namespace, name) = reference(document)?;
    let metadata = object.metadata_mut();
    (metadata.namespace, metadata.name) = (namespace, name);
    Ok((Content::Object(object), findings))
}

fn reject_wrong_types(findings: &[Finding]) -> Result<(), String> {
    let is_wrong = |finding: &Finding| matches!(finding.problem, Problem::WrongType { .. });
    message(findings, is_wrong).map_or(Ok(()), Err)
}

/// Returns a message with the findings that `is_relevant` selects, or `None` without any.
fn message(findings: &[Finding], is_relevant: impl Fn(&Finding) -> bool) -> Option<String> {
    let relevant = findings.iter().filter(|finding| is_relevant(finding));
    let mut texts: Vec<String> = relevant.map(ToString::to_string).collect();
    let left_out = texts.len().saturating_sub(FINDINGS_MAX);
    texts.truncate(FINDINGS_MAX);
    if left_out > 0 {
        texts.push(format!("{left_out} more"));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn secret(document: &Located) -> Result<Secret, String> {
    let mut data = BTreeMap::new();
    for (key, value) in strings(document, "data") {
        let value = STANDARD
            .decode(value.split_ascii_whitespace().collect::<String>())
            .map_err(|_| {
                let field = document.field("data").and_then(|data| data.field(&key));
                let at = field.map_or(document.at, |field| field.at);
                format!("{at}: data.{key} is not Base64")
            })?;
        data.insert(key, value);
    }
    let plain = strings(document, "stringData").into_iter();
    data.extend(plain.map(|(key, value)| (key, value.into_bytes())));
    let kind = Some(document.text("type")).filter(|kind| !kind.is_empty());
    Ok(Secret {
        kind: kind.unwrap_or("Opaque").to_owned(),
        data,
    })
}

/// Returns a map of strings, in which null is an empty string.
fn strings(document: &Located, name: &str) -> BTreeMap<String, String> {
    let Some(Node::Mapping(fields)) = document.field(name).map(|field| &field.value) else {
        return BTreeMap::new();
    };
    let string = |(_, key, value): &(Position, String, Located)| {
        let text = match &value.value {
            Node::Scalar(Value::String(text)) => text.as_str(),
            _ => "",
        };
        (key.clone(), text.to_owned())
    };
    fields.iter().map(string).collect()
}

/// Returns the namespace and name of a document.
fn reference(document: &Located) -> Result<Reference, String> {
    let metadata = document.field("metadata");
    let field = |name| metadata.and_then(|metadata| metadata.field(name));
    let text = |name| metadata.map_or("", |metadata| metadata.text(name));
    let at = |name| {
        field(name)
            .or(metadata)
            .map_or(document.at, |field| field.at)
    };
    let namespace = Some(text("namespace")).filter(|namespace| !namespace.is_empty());
    let (namespace, name) = (namespace.unwrap_or(DEFAULT_NAMESPACE), text("name"));
    if !is_label(namespace) {
        return Err(format!(
            "{}: metadata.namespace {namespace:?} is not a DNS label: lowercase letters, digits and \
             hyphens, at most 63",
            at("namespace")
        ));
    }
    if !is_subdomain(name) {
        return Err(format!(
            "{}: metadata.name {name:?} is not a DNS name: lowercase letters, digits, hyphens and \
             dots, at most 253",
            at("name")
        ));
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\n\
        metadata:\n  name: hello\nspec:\n  replicas: 2\n  template:\n    spec: {}\n";

    fn error_of(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn parses_several_documents_of_a_file() {
        let text = format!(
            "# nothing here\n---\n{DEPLOYMENT}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  \
             namespace: shop\ndata:\n  a: \"1\"\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n\
             data: {{a: aHVudGVyMg==}}\nstringData: {{b: plain}}\n---\napiVersion: v1\nkind: Service\n"
        );
        let documents = parse(&text).unwrap();
        let contents: Vec<Content> = documents.into_iter().map(|it| it.content).collect();
        let [
            Content::Object(object),
            Content::ConfigMap(config, data),
            Content::Secret(_, secret),
            Content::Other(other),
        ] = contents.as_slice()
        else {
            panic!("{contents:?}");
        };
        assert_eq!(object.key().to_string(), "WorkloadDeployment default/hello");
        assert_eq!(config, &("shop".to_owned(), "c".to_owned()));
        assert_eq!(data["a"], "1");
        assert_eq!(
            (
                secret.kind.as_str(),
                &secret.data["a"][..],
                &secret.data["b"][..]
            ),
            ("Opaque", &b"hunter2"[..], &b"plain"[..])
        );
        assert_eq!(other, "v1 Service");
    }

    #[test]
    fn parses_json_and_flattens_lists() {
        let text = r#"{"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}]}"#;
        assert_eq!(parse(text).unwrap().len(), 2);
    }

    #[test]
    fn errors_name_position_and_reason() {
        for (text, part) in [
            ("a: [", "invalid YAML"),
            ("- a", "line 1, column 1: a list, expected a mapping"),
            ("kind: Workload", "apiVersion or kind"),
            (&DEPLOYMENT.replace("v1alpha1", "v2"), "v2"),
            (
                &DEPLOYMENT.replace("Deployment", "Deploymnt"),
                "mean WorkloadDeployment",
            ),
            (
                &DEPLOYMENT.replace("template:", "tmpl:"),
                "spec.template: required, but not set",
            ),
            (
                &DEPLOYMENT.replace("spec: {}", "spec: {components: [{name: a}]}"),
                "components[0].image: required",
            ),
            (
                &DEPLOYMENT.replace("replicas: 2", "replicas: two"),
                "line 6, column 13: spec.replicas: a string",
            ),
            (
                &DEPLOYMENT.replace("name: hello", "name: ../etc"),
                "not a DNS name",
            ),
            (
                "{apiVersion: runtime.wasmcloud.dev/v1alpha1, kind: Host, metadata: {name: h}, hostId: h}",
                "heartbeats",
            ),
        ] {
            let error = error_of(text);
            assert!(error.contains(part), "{part}: {error}");
        }
        let second = error_of(&format!("{DEPLOYMENT}---\nkind: Workload\n"));
        assert!(second.starts_with("line 10, column 1"), "{second}");
    }

    #[test]
    fn unknown_fields_are_ignored_and_named() {
        let documents = parse(&DEPLOYMENT.replace("replicas", "replica")).unwrap();
        let [document] = documents.as_slice() else {
            panic!("{documents:?}")
        };
        let named = document.unknown_fields.as_ref().unwrap();
        assert!(
            named.starts_with("line 6, column 3: spec.replica: "),
            "{named}"
        );
        let Content::Object(Object::Deployment(deployment)) = &document.content else {
            panic!("{document:?}")
        };
        assert_eq!(deployment.spec.replicas, None);
    }

    #[test]
    fn names_follow_the_rules_of_kubernetes() {
        let named =
            |name: &str| parse(&DEPLOYMENT.replace("name: hello", &format!("name: {name}")));
        for valid in [251, 253] {
            assert!(named(&"a".repeat(valid)).is_ok());
        }
        for invalid in [&"a".repeat(255), &"a".repeat(256), "a/../../x", "A", "\"\""] {
            let error = named(invalid).unwrap_err().to_string();
            assert!(
                error.starts_with("line 4, column 9: metadata.name"),
                "{error}"
            );
        }
        assert!(named("con.yaml").is_ok());
        assert!(named("x\n  namespace: a.b").is_err());
    }

    #[test]
    fn errors_contain_no_secrets() {
        let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        for tail in [
            "data: {password: hunter2}\n",
            "data: {password: 1234567}\n",
            "stringData: {password: 1234567}\n",
            "stringData: {password: hunter2\n",
            "stringData: {password: hunter2}}\n",
        ] {
            let error = error_of(&format!("{head}{tail}"));
            assert!(
                !error.contains("hunter2") && !error.contains("1234567"),
                "{error}"
            );
        }
    }
}
