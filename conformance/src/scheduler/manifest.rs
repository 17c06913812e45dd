//! Manifests of `runtime.wasmcloud.dev/v1alpha1` that scenarios submit to a scheduler. Pure.

use serde_json::{Map, Value, json};

use crate::wire::base64;

/// API group and version of all manifests.
pub const API_VERSION: &str = "runtime.wasmcloud.dev/v1alpha1";
/// Default namespace of scenarios.
pub const NAMESPACE: &str = "default";

/// Identity of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Kind, such as `WorkloadDeployment`, `Workload` or `ConfigMap`.
    pub kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl Key {
    /// Returns the key of an object in the default namespace.
    pub fn new(kind: &str, name: &str) -> Key {
        Key {
            kind: kind.to_owned(),
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Returns the key of an object.
    pub fn of(object: &Value) -> Key {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let namespace = text("/metadata/namespace");
        Key {
            kind: text("/kind"),
            namespace: if namespace.is_empty() {
                NAMESPACE.to_owned()
            } else {
                namespace
            },
            name: text("/metadata/name"),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Manifest of an object, such as a workload with one component in a host group.
#[derive(Clone, Debug)]
pub struct Manifest(Value);

impl Manifest {
    /// Returns a WorkloadDeployment with `replicas` replicas.
    pub fn deployment(name: &str, group: &str, image: &str, replicas: i64) -> Manifest {
        Manifest(json!({
            "apiVersion": API_VERSION,
            "kind": "WorkloadDeployment",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": { "replicas": replicas, "template": { "spec": workload_spec(group, image) } },
        }))
    }

    /// Returns a single Workload.
    pub fn workload(name: &str, group: &str, image: &str) -> Manifest {
        Manifest(json!({
            "apiVersion": API_VERSION,
            "kind": "Workload",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": workload_spec(group, image),
        }))
    }

    /// Returns a ConfigMap or a Secret with these values.
    pub fn data(kind: &str, name: &str, values: &[(&str, &str)]) -> Manifest {
        let values: Map<String, Value> = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let field = if kind == "Secret" {
            "stringData"
        } else {
            "data"
        };
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": { "name": name, "namespace": NAMESPACE },
        });
        if let Some(object) = object.as_object_mut() {
            object.insert(field.to_owned(), Value::Object(values));
        }
        Manifest(object)
    }

    /// Returns a Secret with these values in `data`, in Base64.
    pub fn encoded_secret(name: &str, values: &[(&str, &str)]) -> Manifest {
        let encoded: Vec<(&str, String)> = values
            .iter()
            .map(|(key, value)| (*key, base64::encode(value)))
            .collect();
        let encoded: Vec<(&str, &str)> = encoded
            .iter()
            .map(|(key, value)| (*key, &**value))
            .collect();
        // The values of a ConfigMap are in `data`.
        Manifest::data("ConfigMap", name, &encoded).with("/kind", json!("Secret"))
    }

    /// Sets a field of the object by JSON pointer, and creates the objects that contain it.
    pub fn with(mut self, pointer: &str, value: Value) -> Manifest {
        put(&mut self.0, pointer, value);
        self
    }

    /// Removes a member of the object.
    pub fn without(mut self, member: &str) -> Manifest {
        if let Some(object) = self.0.as_object_mut() {
            object.remove(member);
        }
        self
    }

    /// Sets a field of the workload's spec, in a Workload or in the template of a deployment.
    pub fn spec(self, pointer: &str, value: Value) -> Manifest {
        let base = match self.key().kind.as_str() {
            "Workload" => "/spec",
            _ => "/spec/template/spec",
        };
        self.with(&format!("{base}{pointer}"), value)
    }

    /// Sets the number of replicas.
    pub fn replicas(self, replicas: i64) -> Manifest {
        self.with("/spec/replicas", json!(replicas))
    }

    /// Sets the image of the component.
    pub fn image(self, image: &str) -> Manifest {
        self.spec("/components/0/image", json!(image))
    }

    /// Sets the namespace.
    pub fn namespace(self, namespace: &str) -> Manifest {
        self.with("/metadata/namespace", json!(namespace))
    }

    /// Identity of the object.
    pub fn key(&self) -> Key {
        Key::of(&self.0)
    }

    /// Object as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

fn workload_spec(group: &str, image: &str) -> Value {
    json!({
        "hostSelector": { "hostgroup": group },
        "components": [{ "name": "main", "image": image }],
    })
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let index = part.parse::<usize>().ok();
        at = match (index, at) {
            (Some(index), Value::Array(items)) => {
                while items.len() <= index {
                    items.push(Value::Null);
                }
                match items.get_mut(index) {
                    Some(item) => item,
                    None => return,
                }
            }
            (_, at) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                match at.as_object_mut() {
                    Some(members) => members.entry(part).or_insert(Value::Null),
                    None => return,
                }
            }
        };
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_fields_in_each_kind() {
        let manifest = Manifest::deployment("a", "g", "i:1", 2)
            .image("i:2")
            .spec("/components/0/localResources/allowedHosts", json!(["h"]))
            .with("/metadata/labels/a~1b", json!("c"));
        let json = manifest.json();
        let at = |pointer: &str| json.pointer(pointer).cloned();
        assert_eq!(
            at("/spec/template/spec/components/0/image"),
            Some(json!("i:2"))
        );
        assert_eq!(
            at("/spec/template/spec/components/0/localResources/allowedHosts/0"),
            Some(json!("h"))
        );
        assert_eq!(at("/metadata/labels/a~1b"), Some(json!("c")));
        assert_eq!(manifest.key(), Key::new("WorkloadDeployment", "a"));
        let workload = Manifest::workload("w", "g", "i").spec("/hostId", json!("h"));
        assert_eq!(workload.json().pointer("/spec/hostId"), Some(&json!("h")));
    }
}
