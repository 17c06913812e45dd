//! The objects that scenarios give to a scheduler: manifests of `runtime.wasmcloud.dev/v1alpha1`. Pure.

use serde_json::{Map, Value, json};

/// The group and version of all of them.
pub const API_VERSION: &str = "runtime.wasmcloud.dev/v1alpha1";
/// The namespace of scenarios that care for none.
pub const NAMESPACE: &str = "default";

/// What identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `WorkloadDeployment`, `Workload`, `ConfigMap` and so on.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// In the ordinary namespace.
    pub fn new(kind: &str, name: &str) -> Key {
        Key {
            kind: kind.to_owned(),
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Of an object.
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

/// A workload as users write it: one component with an image of its own, bound to a host group.
#[derive(Clone, Debug)]
pub struct Manifest(Value);

impl Manifest {
    /// A WorkloadDeployment of that many replicas.
    pub fn deployment(name: &str, group: &str, image: &str, replicas: i64) -> Manifest {
        Manifest(json!({
            "apiVersion": API_VERSION,
            "kind": "WorkloadDeployment",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": { "replicas": replicas, "template": { "spec": workload_spec(group, image) } },
        }))
    }

    /// A Workload of its own.
    pub fn workload(name: &str, group: &str, image: &str) -> Manifest {
        Manifest(json!({
            "apiVersion": API_VERSION,
            "kind": "Workload",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": workload_spec(group, image),
        }))
    }

    /// A ConfigMap or a Secret with these values.
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

    /// With another value for a field of the object, by JSON pointer; what is on the way is made.
    pub fn with(mut self, pointer: &str, value: Value) -> Manifest {
        put(&mut self.0, pointer, value);
        self
    }

    /// Without a member of the object, by name.
    pub fn without(mut self, member: &str) -> Manifest {
        if let Some(object) = self.0.as_object_mut() {
            object.remove(member);
        }
        self
    }

    /// With another value for a field of the workload's spec, whichever kind this is.
    pub fn spec(self, pointer: &str, value: Value) -> Manifest {
        let base = match self.key().kind.as_str() {
            "Workload" => "/spec",
            _ => "/spec/template/spec",
        };
        self.with(&format!("{base}{pointer}"), value)
    }

    /// With so many replicas.
    pub fn replicas(self, replicas: i64) -> Manifest {
        self.with("/spec/replicas", json!(replicas))
    }

    /// With another image for its component.
    pub fn image(self, image: &str) -> Manifest {
        self.spec("/components/0/image", json!(image))
    }

    /// In another namespace.
    pub fn namespace(self, namespace: &str) -> Manifest {
        self.with("/metadata/namespace", json!(namespace))
    }

    /// What identifies it.
    pub fn key(&self) -> Key {
        Key::of(&self.0)
    }

    /// The object.
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
    fn fields_are_put_where_they_belong() {
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
