//! Reads manifests: the YAML or JSON documents of one file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::name::{is_label, is_subdomain};
use crate::api::{GROUP, Kind, Object, ObjectError};
use crate::store::Secret;

/// The namespace of a manifest that names none, as with `kubectl`.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// How deep lists may hold lists. One level is what people write.
const LIST_DEPTH_MAX: usize = 4;

/// What a manifest can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    /// Something to be kept.
    Object(Object),
    /// Values to refer to.
    ConfigMap(Reference, BTreeMap<String, String>),
    /// Values to refer to that have no printable form.
    Secret(Reference, Secret),
    /// Of a kind that means nothing here.
    Other(String),
}

/// What names a ConfigMap or a Secret: namespace and name.
pub(super) type Reference = (String, String);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// Not YAML.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// One of its documents is not what it says it is.
    #[error("document {number}: {reason}")]
    Document {
        /// Counted from 1.
        number: usize,
        /// Without values, since a manifest may hold secrets.
        reason: String,
    },
}

/// Reads all documents of a file; empty ones are passed over.
pub(super) fn read(text: &str) -> Result<Vec<Document>, DocumentError> {
    // A snippet of the file in an error could be one of a Secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| DocumentError::Yaml(error.to_string()))?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        document(value, &mut documents, 0).map_err(|reason| DocumentError::Document {
            number: index + 1,
            reason,
        })?;
    }
    Ok(documents)
}

fn document(value: Value, into: &mut Vec<Document>, depth: usize) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let fields = value.as_object().ok_or("it is not a mapping")?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    if version.is_empty() || kind.is_empty() {
        return Err("it has no apiVersion or no kind".to_owned());
    }
    match (version.as_str(), kind.as_str()) {
        ("v1", "List") => {
            if depth == LIST_DEPTH_MAX {
                return Err("lists are too deep in one another".to_owned());
            }
            let items = fields.get("items").and_then(Value::as_array);
            for item in items.ok_or("the list has no items")? {
                document(item.clone(), into, depth + 1)?;
            }
        }
        ("v1", "ConfigMap") => into.push(config_map(fields)?),
        ("v1", "Secret") => into.push(secret(fields)?),
        _ if version.split('/').next() == Some(GROUP) => into.push(object(value)?),
        _ => into.push(Document::Other(format!("{version} {kind}"))),
    }
    Ok(())
}

fn object(value: Value) -> Result<Document, String> {
    let mut object = Object::from_value(value).map_err(|error| match error {
        ObjectError::Field { source, .. } => source.to_string(),
        other => other.to_string(),
    })?;
    if object.kind() == Kind::Host {
        return Err("hosts are made from their heartbeats, not from manifests".to_owned());
    }
    let metadata = object.metadata_mut();
    if metadata.namespace.is_empty() {
        metadata.namespace = DEFAULT_NAMESPACE.to_owned();
    }
    names_are_good(&metadata.namespace, &metadata.name)?;
    Ok(Document::Object(object))
}

fn config_map(fields: &Map<String, Value>) -> Result<Document, String> {
    Ok(Document::ConfigMap(
        reference(fields)?,
        texts(fields, "data")?,
    ))
}

fn secret(fields: &Map<String, Value>) -> Result<Document, String> {
    let mut data = BTreeMap::new();
    for (key, value) in texts(fields, "data")? {
        let value = STANDARD
            .decode(value.split_ascii_whitespace().collect::<String>())
            .map_err(|_| format!("data.{key} is no Base64"))?;
        data.insert(key, value);
    }
    let plain = texts(fields, "stringData")?;
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

/// A map of texts. Other values are refused, as the API server does: `8080` and `"8080"` differ.
fn texts(fields: &Map<String, Value>, name: &str) -> Result<BTreeMap<String, String>, String> {
    let map = match fields.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("{name} is not a mapping")),
    };
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Null => Ok((key.clone(), String::new())),
        _ => Err(format!("{name}.{key} is no text; put it in quotes")),
    };
    map.iter().map(text).collect()
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
    names_are_good(&namespace, &name)?;
    Ok((namespace, name))
}

fn names_are_good(namespace: &str, name: &str) -> Result<(), String> {
    if !is_label(namespace) {
        return Err(format!("metadata.namespace {namespace:?} is no DNS label"));
    }
    if !is_subdomain(name) {
        return Err(format!("metadata.name {name:?} is no DNS name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\n\
        metadata:\n  name: hello\nspec:\n  replicas: 2\n  template:\n    spec: {}\n";

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_holds_several_documents() {
        let text = format!(
            "# nothing here\n---\n{DEPLOYMENT}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  \
             namespace: shop\ndata:\n  a: \"1\"\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n\
             data: {{a: aHVudGVyMg==}}\nstringData: {{b: plain}}\n---\napiVersion: v1\nkind: Service\n"
        );
        let documents = read(&text).unwrap();
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
    fn json_is_yaml_and_lists_are_flattened() {
        let text = r#"{"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}]}"#;
        assert_eq!(read(text).unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, part) in [
            ("a: [", "no YAML"),
            ("- a", "document 1: it is not a mapping"),
            ("kind: Workload", "no apiVersion"),
            (&DEPLOYMENT.replace("v1alpha1", "v2"), "v2"),
            (&DEPLOYMENT.replace("Deployment", "Deploymnt"), "Deploymnt"),
            (&DEPLOYMENT.replace("replicas: 2", "replicas: two"), "two"),
            (
                &DEPLOYMENT.replace("name: hello", "name: ../etc"),
                "no DNS name",
            ),
            (
                "{apiVersion: runtime.wasmcloud.dev/v1alpha1, kind: Host, metadata: {name: h}, hostId: h}",
                "heartbeats",
            ),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        let second = refusal(&format!("{DEPLOYMENT}---\nkind: Workload\n"));
        assert!(second.starts_with("document 2"), "{second}");
    }

    #[test]
    fn a_refusal_holds_no_secret() {
        let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        for tail in [
            "data: {password: hunter2}\n",
            "data: {password: 1234567}\n",
            "stringData: {password: 1234567}\n",
            "stringData: {password: hunter2\n",
            "stringData: {password: hunter2}}\n",
        ] {
            let refusal = refusal(&format!("{head}{tail}"));
            assert!(
                !refusal.contains("hunter2") && !refusal.contains("1234567"),
                "{refusal}"
            );
        }
    }
}
