//! What a manifest asks for: one workload, or so many equal ones.

use berth_sdk::proto::Workload;
use serde_json::{Map, Value, json};

use crate::placement::Conditions;

const MAX_REPLICAS: u64 = 1000;

/// One workload that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Namespace and name.
    pub key: String,
    /// The object as it is shown.
    pub shown: Value,
    /// What is sent to a host.
    pub workload: Workload,
    /// What the host has to meet.
    pub conditions: Conditions,
    /// Why it, or what has come in its place, cannot be started at all.
    pub refused: Option<String>,
}

impl Manifest {
    /// Whether nothing has to be started anew when the one takes the place of the other.
    pub fn asks_for_the_same(&self, other: &Manifest) -> bool {
        self.workload == other.workload && self.conditions == other.conditions
    }
}

/// What stands in one file: a Workload, or a WorkloadDeployment of `replicas` equal ones.
#[derive(Clone, Debug)]
pub struct Submitted {
    pub shown: Value,
    pub replicas: Vec<Manifest>,
}

pub fn read(text: &[u8]) -> Result<Submitted, String> {
    let shown: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let name = text_at(&shown, "/metadata/name");
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(format!("{name:?} cannot be a name"));
    }
    let spec = at(&shown, "/spec");
    let replicas = match text_at(&shown, "/kind").as_str() {
        "Workload" => vec![workload(&shown, &name, &spec)],
        "WorkloadDeployment" => {
            let replicas = spec.get("replicas").map_or(Some(1), Value::as_u64);
            let replicas = replicas.filter(|replicas| *replicas <= MAX_REPLICAS);
            let template = at(&spec, "/template/spec");
            (0..replicas.ok_or("replicas are too many, or none")?)
                .map(|number| workload(&shown, &format!("{name}-{number}"), &template))
                .collect()
        }
        kind => return Err(format!("kind {kind:?} is not one that is known here")),
    };
    Ok(Submitted { shown, replicas })
}

fn workload(shown: &Value, name: &str, spec: &Value) -> Manifest {
    let namespace = namespace(shown);
    let list = |name: &str| at(spec, name).as_array().cloned().unwrap_or_default();
    let components: Vec<Value> = list("/components").iter().map(part).collect();
    let volumes: Vec<Value> = list("/volumes").iter().map(volume).collect();
    let sent = json!({
        "namespace": namespace,
        "name": name,
        "service": spec.get("service").map(part),
        "witWorld": { "components": components, "hostInterfaces": list("/hostInterfaces") },
        "volumes": volumes,
    });
    let read = berth_sdk::json::read(sent.to_string().as_bytes());
    let refused = read.as_ref().err();
    let refused = refused.map(|error| format!("the manifest is refused: {error}"));
    let labels = at(spec, "/hostSelector");
    let labels = labels.as_object().into_iter().flatten();
    let conditions = Conditions {
        labels: labels
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        environment: text_at(spec, "/environment"),
        host_id: text_at(spec, "/hostId"),
    };
    Manifest {
        key: format!("{namespace}/{name}"),
        shown: json!({
            "apiVersion": shown.get("apiVersion"),
            "kind": "Workload",
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        }),
        workload: read.unwrap_or_default(),
        conditions,
        refused,
    }
}

/// A component or a service, whose fields have nearly the same names on the wire.
fn part(spec: &Value) -> Value {
    let mut sent = spec.as_object().cloned().unwrap_or_default();
    sent.remove("imagePullSecret");
    let policy = match text_at(spec, "/imagePullPolicy").as_str() {
        "Always" => Some("IMAGE_PULL_POLICY_ALWAYS"),
        "IfNotPresent" => Some("IMAGE_PULL_POLICY_IF_NOT_PRESENT"),
        "Never" => Some("IMAGE_PULL_POLICY_NEVER"),
        _ => None,
    };
    sent.insert("imagePullPolicy".to_owned(), json!(policy));
    if let Some(resources) = sent
        .get_mut("localResources")
        .and_then(Value::as_object_mut)
    {
        let environment = resources.remove("environment").unwrap_or_default();
        let environment = at(&environment, "/config");
        resources.insert("environment".to_owned(), environment);
    }
    Value::Object(sent)
}

fn volume(spec: &Value) -> Value {
    let name = spec.get("name");
    match spec.pointer("/hostPath/path") {
        Some(path) => json!({ "name": name, "hostPath": { "localPath": path } }),
        None => json!({ "name": name, "emptyDir": Map::new() }),
    }
}

pub fn namespace(shown: &Value) -> String {
    let namespace = text_at(shown, "/metadata/namespace");
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
