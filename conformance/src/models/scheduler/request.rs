//! From the spec of a Workload to the start on the wire. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Mutant;
use crate::wire::base64;

/// What can be referred to: `Kind/namespace/name` and its object.
pub(super) type Objects = BTreeMap<String, Value>;

/// What stands in the way of a start, in words.
#[derive(Debug)]
pub(super) struct NotYet(pub String);

/// Makes the `workload` of a start.
pub(super) struct Maker<'o> {
    pub objects: &'o Objects,
    pub namespace: &'o str,
    pub mutant: Option<Mutant>,
}

impl Maker<'_> {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The workload as hosts are sent it.
    pub(super) fn workload(
        &self,
        name: &str,
        spec: &Value,
        annotations: &Value,
    ) -> Result<Value, NotYet> {
        let mut workload = Map::new();
        if !self.is(Mutant::Nameless) {
            workload.insert("namespace".into(), json!(self.namespace));
            workload.insert("name".into(), json!(name));
        }
        let sent = annotations
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| {
                !key.starts_with("kubectl.kubernetes.io/") || self.is(Mutant::SendsLastApplied)
            });
        let annotations: Map<String, Value> = sent.map(|(k, v)| (k.clone(), v.clone())).collect();
        if !annotations.is_empty() && !self.is(Mutant::DropsAnnotations) {
            workload.insert("annotations".into(), Value::Object(annotations));
        }
        let mut world = Map::new();
        let components = list(spec, "components").map(|item| self.component(item));
        let components: Vec<Value> = components.collect::<Result<_, _>>()?;
        let interfaces = list(spec, "hostInterfaces").map(|item| self.interface(item, spec));
        let interfaces: Vec<Value> = interfaces.collect::<Result<_, _>>()?;
        insert_list(&mut world, "components", components);
        insert_list(&mut world, "hostInterfaces", interfaces);
        if !world.is_empty() {
            workload.insert("witWorld".into(), Value::Object(world));
        }
        if let Some(service) = spec.get("service").filter(|service| service.is_object()) {
            let mut made = self.part(service, &["image"])?;
            copy_numbers(
                service,
                &mut made,
                &["maxRestarts"],
                self.is(Mutant::WritesZeroLimits),
            );
            if let (true, Some(restarts)) = (
                self.is(Mutant::CastsNegativeNumbers),
                made.get("maxRestarts").and_then(Value::as_i64),
            ) {
                made.insert(
                    "maxRestarts".into(),
                    json!(restarts.cast_unsigned().to_string()),
                );
            } else if let Some(restarts) = made.get("maxRestarts").cloned() {
                // 64 bits are written as text.
                let text = if self.is(Mutant::WritesRestartsAsNumber) {
                    restarts
                } else {
                    json!(restarts.to_string())
                };
                made.insert("maxRestarts".into(), text);
            }
            workload.insert("service".into(), Value::Object(made));
        }
        insert_list(
            &mut workload,
            "volumes",
            list(spec, "volumes").map(volume).collect(),
        );
        Ok(Value::Object(workload))
    }

    fn component(&self, component: &Value) -> Result<Value, NotYet> {
        let mut made = self.part(component, &["name", "image"])?;
        let limits = ["poolSize", "maxInvocations", "maxConcurrency"];
        copy_numbers(
            component,
            &mut made,
            &limits,
            self.is(Mutant::WritesZeroLimits),
        );
        Ok(Value::Object(made))
    }

    /// What components and services have in common.
    fn part(&self, part: &Value, texts: &[&str]) -> Result<Map<String, Value>, NotYet> {
        let mut made = Map::new();
        for name in texts {
            if let Some(text) = part.get(*name) {
                made.insert((*name).to_owned(), text.clone());
            }
        }
        let policy = match part.get("imagePullPolicy").and_then(Value::as_str) {
            Some("Always") => Some("IMAGE_PULL_POLICY_ALWAYS"),
            Some("IfNotPresent") => Some("IMAGE_PULL_POLICY_IF_NOT_PRESENT"),
            Some("Never") => Some("IMAGE_PULL_POLICY_NEVER"),
            Some(other) if self.is(Mutant::RefusesOddManifests) => {
                return Err(NotYet(format!("there is no pull policy {other}")));
            }
            _ => None,
        };
        if let Some(policy) = policy {
            made.insert("imagePullPolicy".into(), json!(policy));
        }
        let secret = part
            .pointer("/imagePullSecret/name")
            .and_then(Value::as_str);
        if let Some(name) = secret.filter(|name| !name.is_empty()) {
            let image = part
                .get("image")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if let Some(credentials) = self.credentials(name, image)? {
                made.insert("imagePullSecret".into(), credentials);
            }
        }
        if let Some(resources) = part.get("localResources") {
            let made_resources = self.resources(resources)?;
            if !made_resources.is_empty() {
                made.insert("localResources".into(), Value::Object(made_resources));
            }
        }
        Ok(made)
    }

    fn resources(&self, resources: &Value) -> Result<Map<String, Value>, NotYet> {
        let mut made = Map::new();
        if let Some(layer) = resources.get("environment") {
            insert_map(&mut made, "environment", self.layer(layer)?);
        }
        if let Some(config) = resources.get("config").and_then(Value::as_object) {
            insert_map(&mut made, "config", config.clone());
        }
        for name in [
            "volumeMounts",
            "allowedHosts",
            "allowedIpNameLookups",
            "allowedHostLoopbackPorts",
        ] {
            if name == "allowedHostLoopbackPorts" && self.is(Mutant::DropsLoopbackPorts) {
                continue;
            }
            insert_list(&mut made, name, list(resources, name).cloned().collect());
        }
        Ok(made)
    }

    fn interface(&self, interface: &Value, spec: &Value) -> Result<Value, NotYet> {
        let mut made = Map::new();
        for name in ["namespace", "package", "version", "name"] {
            let text = interface.get(name).filter(|text| text.as_str() != Some(""));
            if let Some(text) = text {
                made.insert(name.to_owned(), text.clone());
            }
        }
        insert_list(
            &mut made,
            "interfaces",
            list(interface, "interfaces").cloned().collect(),
        );
        let mut config = match self.is(Mutant::InterfaceConfigUnread) {
            true => interface
                .get("config")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            false => self.layer(interface)?,
        };
        self.alias(interface, spec, &mut config);
        insert_map(&mut made, "config", config);
        Ok(Value::Object(made))
    }

    fn alias(&self, interface: &Value, spec: &Value, config: &mut Map<String, Value>) {
        let service = spec
            .pointer("/kubernetes/service/name")
            .and_then(Value::as_str);
        let is_http = interface.get("namespace") == Some(&json!("wasi"))
            && interface.get("package") == Some(&json!("http"));
        let serves = |name: &Value| {
            name == &json!("incoming-handler")
                || (name == &json!("handler") && !self.is(Mutant::AliasesInOneInterface))
        };
        let (Some(service), true, true) =
            (service, is_http, list(interface, "interfaces").any(serves))
        else {
            return;
        };
        let (namespace, before) = (self.namespace, config.get("host-aliases"));
        let mut aliases: Vec<String> = before
            .and_then(Value::as_str)
            .map(|text| {
                text.split(',')
                    .map(|alias| alias.trim().to_owned())
                    .collect()
            })
            .unwrap_or_default();
        aliases.push(format!("{service}.{namespace}"));
        aliases.push(format!("{service}.{namespace}.svc"));
        config.insert("host-aliases".into(), json!(aliases.join(",")));
    }

    /// Inline values, then configurations, then secrets: the last one counts.
    fn layer(&self, layer: &Value) -> Result<Map<String, Value>, NotYet> {
        let mut values: Map<String, Value> = Map::new();
        let mut add = |more: Map<String, Value>| {
            for (key, value) in more {
                if !(self.is(Mutant::FirstValueWins) && values.contains_key(&key)) {
                    values.insert(key, value);
                }
            }
        };
        add(layer
            .get("config")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default());
        for (list_name, kind) in [("configFrom", "ConfigMap"), ("secretFrom", "Secret")] {
            for reference in list(layer, list_name) {
                let name = reference
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                match self.data(kind, name) {
                    Some(data) => add(data),
                    None if self.is(Mutant::StartsWithoutTheSecret) => {}
                    None => return Err(NotYet(format!("there is no {kind} {name}"))),
                }
            }
        }
        Ok(values)
    }

    fn data(&self, kind: &str, name: &str) -> Option<Map<String, Value>> {
        let key = format!("{kind}/{}/{name}", self.namespace);
        let anywhere = || {
            let end = format!("/{name}");
            let mut found = self.objects.iter();
            let found = found.find(|(key, _)| key.starts_with(kind) && key.ends_with(&end));
            found.map(|(_, object)| object)
        };
        let object = match self.is(Mutant::SecretsFromAnywhere) {
            true => self.objects.get(&key).or_else(anywhere)?,
            false => self.objects.get(&key)?,
        };
        let mut data = Map::new();
        for (key, value) in object
            .get("data")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let text = value.as_str().unwrap_or_default();
            let text = match kind {
                "Secret" => base64::decode(text)?,
                _ => text.to_owned(),
            };
            data.insert(key.clone(), json!(text));
        }
        let plain = object.get("stringData").and_then(Value::as_object);
        data.extend(
            plain
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        Some(data)
    }

    fn credentials(&self, secret: &str, image: &str) -> Result<Option<Value>, NotYet> {
        let missing = || NotYet(format!("there is no Secret {secret}"));
        let data = self.data("Secret", secret).ok_or_else(missing)?;
        let text = data
            .get(".dockerconfigjson")
            .and_then(Value::as_str)
            .unwrap_or("{}");
        let config: Value = serde_json::from_str(text).unwrap_or_default();
        let registry = registry_of(image);
        let mut names = vec![registry.to_owned()];
        if registry == "docker.io" && !self.is(Mutant::DockerHubByName) {
            names.push("https://index.docker.io/v1/".to_owned());
        }
        let auths = config.get("auths").and_then(Value::as_object);
        let entry = auths.and_then(|auths| {
            let own = names.iter().find_map(|name| auths.get(name));
            match self.is(Mutant::AnyCredentialsWillDo) {
                true => auths.values().next(),
                false => own,
            }
        });
        let Some(entry) = entry else {
            let empty = json!({ "username": "", "password": "" });
            return Ok(self.is(Mutant::EmptyCredentials).then_some(empty));
        };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let (user, password) = match (text("username"), text("password"), text("auth")) {
            (Some(user), Some(password), _) => (user, password),
            (_, _, Some(auth)) => {
                let both = base64::decode(&auth).unwrap_or_default();
                let (user, password) = both.split_once(':').unwrap_or_default();
                (user.to_owned(), password.to_owned())
            }
            _ => return Ok(None),
        };
        Ok(Some(json!({ "username": user, "password": password })))
    }
}

/// The registry of an image; Docker Hub when its first part is no host name.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

fn volume(volume: &Value) -> Value {
    let mut made = Map::new();
    made.insert(
        "name".into(),
        volume.get("name").cloned().unwrap_or_default(),
    );
    let path = volume.pointer("/hostPath/path");
    match (volume.get("ephemeral"), path) {
        (None, Some(path)) => made.insert("hostPath".into(), json!({ "localPath": path })),
        _ => made.insert("emptyDir".into(), json!({})),
    };
    Value::Object(made)
}

fn copy_numbers(from: &Value, to: &mut Map<String, Value>, names: &[&str], zeros: bool) {
    for name in names {
        let number = from.get(*name).and_then(Value::as_i64).unwrap_or(0);
        if number != 0 || zeros {
            to.insert((*name).to_owned(), json!(number));
        }
    }
}

fn list<'v>(object: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    object
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn insert_list(into: &mut Map<String, Value>, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        into.insert(name.to_owned(), Value::Array(items));
    }
}

fn insert_map(into: &mut Map<String, Value>, name: &str, members: Map<String, Value>) {
    if !members.is_empty() {
        into.insert(name.to_owned(), Value::Object(members));
    }
}
