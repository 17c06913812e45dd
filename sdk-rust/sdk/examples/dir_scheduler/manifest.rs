//! Parses a manifest: the file of one workload, or of a number of equal replicas.

use berth_sdk::proto::Workload;
use serde_json::{Map, Value, json};

use crate::placement::Constraints;

const MAX_REPLICAS: u64 = 1000;

/// A workload that a manifest asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredWorkload {
    /// Namespace and name.
    pub key: String,
    /// The object, to which the status is added.
    pub object: Value,
    /// The workload, as sent to a host.
    pub workload: Workload,
    pub constraints: Constraints,
    /// Reason why the manifest, or its latest version, is invalid.
    pub refusal: Option<String>,
}

impl DesiredWorkload {
    /// Returns whether workload and constraints are the same, so that an incarnation of `other` can
    /// keep running.
    pub fn is_same_workload(&self, other: &DesiredWorkload) -> bool {
        self.workload == other.workload && self.constraints == other.constraints
    }
}

/// The content of one file: a Workload, or a WorkloadDeployment with `replicas` equal workloads.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub object: Value,
    pub replicas: Vec<DesiredWorkload>,
    /// Reason why the latest version of the file is invalid and has no effect.
    pub refusal: Option<String>,
}

pub fn parse(text: &[u8]) -> Result<Manifest, String> {
    let object: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let name = text_at(&object, "/metadata/name");
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(format!("invalid name {name:?}"));
    }
    let spec = at(&object, "/spec");
    let replicas = match text_at(&object, "/kind").as_str() {
        "Workload" => vec![desired_workload(&object, &name, &spec)],
        "WorkloadDeployment" => {
            let replicas = spec.get("replicas").map_or(Some(1), Value::as_u64);
            let replicas = replicas.filter(|replicas| *replicas <= MAX_REPLICAS);
            let template = at(&spec, "/template/spec");
            (0..replicas.ok_or("field `spec.replicas` is invalid")?)
                .map(|number| desired_workload(&object, &format!("{name}-{number}"), &template))
                .collect()
        }
        kind => return Err(format!("unknown kind {kind:?}")),
    };
    Ok(Manifest {
        object,
        replicas,
        refusal: None,
    })
}

fn desired_workload(object: &Value, name: &str, spec: &Value) -> DesiredWorkload {
    let namespace = namespace(object);
    let list = |pointer: &str| at(spec, pointer).as_array().cloned().unwrap_or_default();
    let components: Vec<Value> = list("/components").iter().map(part_message).collect();
    let volumes: Vec<Value> = list("/volumes").iter().map(volume).collect();
    let message = json!({
        "namespace": namespace,
        "name": name,
        "service": spec.get("service").map(part_message),
        "witWorld": { "components": components, "hostInterfaces": list("/hostInterfaces") },
        "volumes": volumes,
    });
    let decoded = berth_sdk::json::decode(message.to_string().as_bytes());
    let refusal = decoded.as_ref().err();
    let refusal = refusal.map(|error| format!("invalid manifest: {error}"));
    let labels = at(spec, "/hostSelector");
    let labels = labels.as_object().into_iter().flatten();
    let constraints = Constraints {
        labels: labels
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        environment: text_at(spec, "/environment"),
        host_id: text_at(spec, "/hostId"),
    };
    DesiredWorkload {
        key: format!("{namespace}/{name}"),
        object: json!({
            "apiVersion": object.get("apiVersion"),
            "kind": "Workload",
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        }),
        workload: decoded.unwrap_or_default(),
        constraints,
        refusal,
    }
}

/// Converts a component or a service to its message, which has almost the same fields.
fn part_message(spec: &Value) -> Value {
    let mut message = spec.as_object().cloned().unwrap_or_default();
    message.remove("imagePullSecret");
    let policy = match text_at(spec, "/imagePullPolicy").as_str() {
        "Always" => Some("IMAGE_PULL_POLICY_ALWAYS"),
        "IfNotPresent" => Some("IMAGE_PULL_POLICY_IF_NOT_PRESENT"),
        "Never" => Some("IMAGE_PULL_POLICY_NEVER"),
        _ => None,
    };
    message.insert("imagePullPolicy".to_owned(), json!(policy));
    if let Some(resources) = message
        .get_mut("localResources")
        .and_then(Value::as_object_mut)
    {
        let environment = resources.remove("environment").unwrap_or_default();
        let environment = at(&environment, "/config");
        resources.insert("environment".to_owned(), environment);
    }
    Value::Object(message)
}

fn volume(spec: &Value) -> Value {
    let name = spec.get("name");
    match spec.pointer("/hostPath/path") {
        Some(path) => json!({ "name": name, "hostPath": { "localPath": path } }),
        None => json!({ "name": name, "emptyDir": Map::new() }),
    }
}

pub fn namespace(object: &Value) -> String {
    let namespace = text_at(object, "/metadata/namespace");
    if namespace.is_empty() {
        return "default".to_owned();
    }
    namespace
}

fn at(value: &Value, pointer: &str) -> Value {
    value.pointer(pointer).cloned().unwrap_or_default()
}

pub fn text_at(value: &Value, pointer: &str) -> String {
    at(value, pointer).as_str().unwrap_or_default().to_owned()
}
