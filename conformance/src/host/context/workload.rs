//! Builder of workloads as raw JSON, so that a check can also build invalid ones.

use serde_json::{Map, Value, json};

use super::{CheckContext, Image};
use crate::testbed::beacon::Beacon;

/// A `Workload` of the schema as JSON. Settings such as `env` apply to the component or service
/// that was added last.
#[derive(Clone, Debug)]
#[must_use]
pub struct Workload<'c> {
    cx: &'c CheckContext,
    json: Value,
    latest: Latest,
}

#[derive(Clone, Copy, Debug)]
enum Latest {
    Nothing,
    Component,
    Service,
}

impl<'c> Workload<'c> {
    pub(super) fn new(cx: &'c CheckContext) -> Workload<'c> {
        let json = json!({ "namespace": "berth", "name": cx.unique_name() });
        Workload {
            cx,
            json,
            latest: Latest::Nothing,
        }
    }

    /// Adds a component with this image: a role, a pushed artifact or a reference.
    pub fn component(mut self, image: impl Image) -> Self {
        let image = image.reference(self.cx);
        let components = self.list(&["witWorld", "components"]);
        let name = format!("c{}", components.len());
        components.push(json!({ "name": name, "image": image }));
        self.latest = Latest::Component;
        self
    }

    /// Sets the service, with this image.
    pub fn service(mut self, image: impl Image) -> Self {
        let image = image.reference(self.cx);
        self.set("service", json!({ "image": image }));
        self.latest = Latest::Service;
        self
    }

    /// Sets `maxRestarts` of the service.
    pub fn max_restarts(mut self, restarts: u64) -> Self {
        let service = self.object(&["service"]);
        service.insert("maxRestarts".to_owned(), json!(restarts.to_string()));
        self
    }

    /// Adds an environment variable to the latest component or service.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.resources("environment")
            .insert(name.to_owned(), json!(value));
        self
    }

    /// Adds a `wasi:config` value to the latest component or service.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.resources("config")
            .insert(name.to_owned(), json!(value));
        self
    }

    /// Adds an entry to `allowedHosts` of the latest component or service.
    pub fn allowed_host(mut self, entry: &str) -> Self {
        self.resource_list("allowedHosts").push(json!(entry));
        self
    }

    /// Passes a beacon to the latest component or service, and allows requests to the beacon.
    pub fn beacon(self, beacon: &Beacon) -> Self {
        self.env("BEACON", &beacon.value)
            .allowed_host(&beacon.authority)
    }

    /// Sets `memoryLimitMb` of the latest component or service.
    pub fn memory_limit_mb(self, limit: i64) -> Self {
        self.resource_field("memoryLimitMb", json!(limit))
    }

    /// Sets `imagePullPolicy` of the latest component or service: `ALWAYS`, `IF_NOT_PRESENT`,
    /// `NEVER`.
    pub fn pull_policy(mut self, policy: &str) -> Self {
        let policy = format!("IMAGE_PULL_POLICY_{policy}");
        self.latest()
            .insert("imagePullPolicy".to_owned(), json!(policy));
        self
    }

    /// Sets `imagePullSecret` of the latest component or service.
    pub fn pull_secret(mut self, user: &str, password: &str) -> Self {
        self.cx.add_secret(password);
        let secret = json!({ "username": user, "password": password });
        self.latest().insert("imagePullSecret".to_owned(), secret);
        self
    }

    /// Adds a volume to the workload; `volume` is its type, such as `json!({"emptyDir": {}})`.
    pub fn volume(mut self, name: &str, volume: Value) -> Self {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(name));
        if let Value::Object(volume) = volume {
            entry.extend(volume);
        }
        self.list(&["volumes"]).push(Value::Object(entry));
        self
    }

    /// Mounts a volume into the latest component or service.
    pub fn mount(mut self, name: &str, path: &str) -> Self {
        let mount = json!({ "name": name, "mountPath": path });
        self.resource_list("volumeMounts").push(mount);
        self
    }

    /// Mounts a volume read-only into the latest component or service.
    pub fn mount_read_only(mut self, name: &str, path: &str) -> Self {
        let mount = json!({ "name": name, "mountPath": path, "readOnly": true });
        self.resource_list("volumeMounts").push(mount);
        self
    }

    /// Declares a host interface.
    pub fn interface(mut self, namespace: &str, package: &str, interfaces: &[&str]) -> Self {
        self.list(&["witWorld", "hostInterfaces"]).push(json!({
            "namespace": namespace, "package": package, "interfaces": interfaces,
        }));
        self
    }

    /// Adds a config value to the interface that was declared last.
    pub fn interface_config(mut self, name: &str, value: &str) -> Self {
        if let Some(Value::Object(latest)) = self.list(&["witWorld", "hostInterfaces"]).last_mut() {
            let config = as_object(latest.entry("config").or_insert(Value::Null));
            config.insert(name.to_owned(), json!(value));
        }
        self
    }

    /// Sets any field of the interface that was declared last.
    pub fn interface_field(mut self, name: &str, value: Value) -> Self {
        if let Some(Value::Object(latest)) = self.list(&["witWorld", "hostInterfaces"]).last_mut() {
            latest.insert(name.to_owned(), value);
        }
        self
    }

    /// Declares `wasi:http` with this `host`, so that requests for `host` reach the workload.
    pub fn http_host(self, host: &str) -> Self {
        self.interface("wasi", "http", &["incoming-handler"])
            .interface_config("host", host)
    }

    /// Sets any field of the latest component or service.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.latest().insert(name.to_owned(), value);
        self
    }

    /// Sets any field of `localResources` of the latest component or service.
    pub fn resource_field(mut self, name: &str, value: Value) -> Self {
        let resources = as_object(self.latest().entry("localResources").or_insert(Value::Null));
        resources.insert(name.to_owned(), value);
        self
    }

    /// Applies any other change to the JSON.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.json);
        self
    }

    /// Returns the JSON of the workload.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Returns the payload of a start with this id.
    pub fn start_request(&self, id: &str) -> Value {
        json!({ "workloadId": id, "workload": self.json })
    }

    fn set(&mut self, name: &str, value: Value) {
        self.object(&[]).insert(name.to_owned(), value);
    }

    fn latest(&mut self) -> &mut Map<String, Value> {
        match self.latest {
            Latest::Service => self.object(&["service"]),
            Latest::Component => {
                let components = self.list(&["witWorld", "components"]);
                let last = components.pop().unwrap_or_default();
                as_object(components.push_mut(last))
            }
            Latest::Nothing => {
                self.cx
                    .evidence()
                    .record_check_error("configures a component before it adds one".to_owned());
                self.object(&["service"])
            }
        }
    }

    fn resources(&mut self, name: &str) -> &mut Map<String, Value> {
        let latest = self.latest();
        let resources = as_object(latest.entry("localResources").or_insert(Value::Null));
        as_object(resources.entry(name).or_insert(Value::Null))
    }

    fn resource_list(&mut self, name: &str) -> &mut Vec<Value> {
        let latest = self.latest();
        let resources = as_object(latest.entry("localResources").or_insert(Value::Null));
        as_list(resources.entry(name).or_insert(Value::Null))
    }

    fn object(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        let mut value = &mut self.json;
        for name in path {
            value = as_object(value).entry(*name).or_insert(Value::Null);
        }
        as_object(value)
    }

    fn list(&mut self, path: &[&str]) -> &mut Vec<Value> {
        let mut value = &mut self.json;
        for name in path {
            value = as_object(value).entry(*name).or_insert(Value::Null);
        }
        as_list(value)
    }
}

/// Returns the value as an object; replaces a value of another type by an empty object.
fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("replaced by an object above"),
    }
}

/// Returns the value as a list; replaces a value of another type by an empty list.
fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("replaced by a list above"),
    }
}
