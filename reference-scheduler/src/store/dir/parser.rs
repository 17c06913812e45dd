//! Parses manifests: the YAML or JSON documents of one file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::name::{is_label, is_subdomain};
use crate::api::{GROUP, Kind, Object, ObjectError};
use crate::store::Secret;

/// Namespace of a manifest without one, as with `kubectl`.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// Maximum depth of nested lists, more than the usual one level.
const LIST_DEPTH_MAX: usize = 4;

/// A document of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
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

/// Error of [`parse`]. Its message contains no values, which may be secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseError {
    /// The file is not YAML.
    #[error("invalid YAML: {0}")]
    Yaml(String),
    /// A document is invalid.
    #[error("document {number}: {reason}")]
    Document {
        /// Number of the document, from 1.
        number: usize,
        /// Description of the error, without values.
        reason: String,
    },
}

/// Parses all documents of a file and skips empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, ParseError> {
    // A snippet in an error message could show a part of a Secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ParseError::Yaml(error.to_string()))?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        parse_document(value, &mut documents, 0).map_err(|reason| ParseError::Document {
            number: index + 1,
            reason,
        })?;
    }
    Ok(documents)
}

fn parse_document(value: Value, documents: &mut Vec<Document>, depth: usize) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let fields = value.as_object().ok_or("not a mapping")?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    if version.is_empty() || kind.is_empty() {
        return Err("apiVersion or kind is missing".to_owned());
    }
    match (version.as_str(), kind.as_str()) {
        ("v1", "List") => {
            if depth == LIST_DEPTH_MAX {
                return Err("lists are nested too deeply".to_owned());
            }
            let items = fields.get("items").and_then(Value::as_array);
            for item in items.ok_or("items of the list are missing")? {
                parse_document(item.clone(), documents, depth + 1)?;
            }
        }
        ("v1", "ConfigMap") => documents.push(config_map(fields)?),
        ("v1", "Secret") => documents.push(secret(fields)?),
        _ if version.split('/').next() == Some(GROUP) => documents.push(object(value)?),
        _ => documents.push(Document::Other(format!("{version} {kind}"))),
    }
    Ok(())
}

fn object(value: Value) -> Result<Document, String> {
    let mut object = Object::from_value(value).map_err(|error| match error {
        ObjectError::Field { source, .. } => source.to_string(),
        other => other.to_string(),
    })?;
    if object.kind() == Kind::Host {
        return Err(
            "a Host cannot be defined in a manifest: hosts are created from heartbeats".to_owned(),
        );
    }
    let metadata = object.metadata_mut();
    if metadata.namespace.is_empty() {
        metadata.namespace = DEFAULT_NAMESPACE.to_owned();
    }
    validate_names(&metadata.namespace, &metadata.name)?;
    Ok(Document::Object(object))
}

fn config_map(fields: &Map<String, Value>) -> Result<Document, String> {
    Ok(Document::ConfigMap(
        reference(fields)?,
        string_map(fields, "data")?,
    ))
}

fn secret(fields: &Map<String, Value>) -> Result<Document, String> {
    let mut data = BTreeMap::new();
    for (key, value) in string_map(fields, "data")? {
        let value = STANDARD
            .decode(value.split_ascii_whitespace().collect::<String>())
            .map_err(|_| format!("data.{key} is not Base64"))?;
        data.insert(key, value);
    }
    let plain = string_map(fields, "stringData")?;
    data.extend(
        plain
            .into_iter()
            .map(|(key, value)| (key, value.into_bytes())),
    );
    let kind = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("Opaque");
    let secret = Secret {
        kind: kind.to_owned(),
        data,
    };
    Ok(Document::Secret(reference(fields)?, secret))
}

/// Reads a map of strings. Rejects other values, as the API server does: `8080` is not `"8080"`.
fn string_map(fields: &Map<String, Value>, name: &str) -> Result<BTreeMap<String, String>, String> {
    let map = match fields.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("{name} is not a mapping")),
    };
    let string = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Null => Ok((key.clone(), String::new())),
        _ => Err(format!("{name}.{key} is not a string; put it in quotes")),
    };
    map.iter().map(string).collect()
}

fn reference(fields: &Map<String, Value>) -> Result<Reference, String> {
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let text = |name: &str| {
        let value = metadata.and_then(|metadata| metadata.get(name));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (mut namespace, name) = (text("namespace"), text("name"));
    if namespace.is_empty() {
        namespace = DEFAULT_NAMESPACE.to_owned();
    }
    validate_names(&namespace, &name)?;
    Ok((namespace, name))
}

fn validate_names(namespace: &str, name: &str) -> Result<(), String> {
    if !is_label(namespace) {
        return Err(format!(
            "metadata.namespace {namespace:?} is not a DNS label"
        ));
    }
    if !is_subdomain(name) {
        return Err(format!("metadata.name {name:?} is not a DNS name"));
    }
    Ok(())
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
        let [
            Document::Object(object),
            Document::ConfigMap(config, data),
            Document::Secret(_, secret),
            Document::Other(other),
        ] = documents.as_slice()
        else {
            panic!("{documents:?}");
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
    fn errors_name_document_and_reason() {
        for (text, part) in [
            ("a: [", "invalid YAML"),
            ("- a", "document 1: not a mapping"),
            ("kind: Workload", "apiVersion or kind"),
            (&DEPLOYMENT.replace("v1alpha1", "v2"), "v2"),
            (&DEPLOYMENT.replace("Deployment", "Deploymnt"), "Deploymnt"),
            (&DEPLOYMENT.replace("replicas: 2", "replicas: two"), "two"),
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
        assert!(second.starts_with("document 2"), "{second}");
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
