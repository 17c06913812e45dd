//! Builds the start request of a Workload.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Mutant;
use crate::wire::base64;

/// Objects by key: `Kind/namespace/name`.
pub(super) type Objects = BTreeMap<String, Value>;

/// Reason why a workload cannot be started yet.
#[derive(Debug)]
pub(super) struct Blocked(pub String);

/// Builder for the `workload` field of a start request.
pub(super) struct RequestBuilder<'o> {
    pub objects: &'o Objects,
    pub namespace: &'o str,
    pub mutant: Option<Mutant>,
}

impl RequestBuilder<'_> {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Builds the workload.
    pub(super) fn workload(
        &self,
        name: &str,
        spec: &Value,
        annotations: &Value,
    ) -> Result<Value, Blocked> {
        let mut workload = Map::new();
        if !self.is(Mutant::OmitsNameAndNamespace) {
            workload.insert("namespace".into(), json!(self.namespace));
            workload.insert("name".into(), json!(name));
        }
        let annotations: Map<String, Value> = annotations
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| {
                !key.starts_with("kubectl.kubernetes.io/")
                    || self.is(Mutant::SendsKubectlAnnotations)
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
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
            workload.insert("service".into(), self.service(service)?);
        }
        insert_list(
            &mut workload,
            "volumes",
            list(spec, "volumes").map(volume).collect(),
        );
        Ok(Value::Object(workload))
    }

    fn service(&self, service: &Value) -> Result<Value, Blocked> {
        let mut built = self.part(service, &["image"])?;
        let with_zeros = self.is(Mutant::WritesZeroLimits);
        copy_numbers(service, &mut built, &["maxRestarts"], with_zeros);
        let max_restarts = built.get("maxRestarts").and_then(Value::as_i64);
        if let Some(max_restarts) = max_restarts {
            // 64-bit integers are written as strings.
            let value = if self.is(Mutant::CastsNegativeMaxRestarts) {
                json!(max_restarts.cast_unsigned().to_string())
            } else if self.is(Mutant::WritesMaxRestartsAsNumber) {
                json!(max_restarts)
            } else {
                json!(max_restarts.to_string())
            };
            built.insert("maxRestarts".into(), value);
        }
        Ok(Value::Object(built))
    }

    fn component(&self, component: &Value) -> Result<Value, Blocked> {
        let mut built = self.part(component, &["name", "image"])?;
        let limits = ["poolSize", "maxInvocations", "maxConcurrency"];
        let with_zeros = self.is(Mutant::WritesZeroLimits);
        copy_numbers(component, &mut built, &limits, with_zeros);
        Ok(Value::Object(built))
    }

    /// Builds the fields that components and services have in common, and copies `texts`.
    fn part(&self, part: &Value, texts: &[&str]) -> Result<Map<String, Value>, Blocked> {
        let mut built = Map::new();
        for name in texts {
            if let Some(text) = part.get(*name) {
                built.insert((*name).to_owned(), text.clone());
            }
        }
        let policy = match part.get("imagePullPolicy").and_then(Value::as_str) {
            Some("Always") => Some("IMAGE_PULL_POLICY_ALWAYS"),
            Some("IfNotPresent") => Some("IMAGE_PULL_POLICY_IF_NOT_PRESENT"),
            Some("Never") => Some("IMAGE_PULL_POLICY_NEVER"),
            Some(other) if self.is(Mutant::RefusesUnusualManifests) => {
                return Err(Blocked(format!("imagePullPolicy {other} is unknown")));
            }
            _ => None,
        };
        if let Some(policy) = policy {
            built.insert("imagePullPolicy".into(), json!(policy));
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
                built.insert("imagePullSecret".into(), credentials);
            }
        }
        if let Some(resources) = part.get("localResources") {
            let resources = self.resources(resources)?;
            if !resources.is_empty() {
                built.insert("localResources".into(), Value::Object(resources));
            }
        }
        Ok(built)
    }

    fn resources(&self, resources: &Value) -> Result<Map<String, Value>, Blocked> {
        let mut built = Map::new();
        if let Some(environment) = resources.get("environment") {
            insert_map(&mut built, "environment", self.config(environment)?);
        }
        if let Some(config) = resources.get("config").and_then(Value::as_object) {
            insert_map(&mut built, "config", config.clone());
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
            insert_list(&mut built, name, list(resources, name).cloned().collect());
        }
        Ok(built)
    }

    fn interface(&self, interface: &Value, spec: &Value) -> Result<Value, Blocked> {
        let mut built = Map::new();
        for name in ["namespace", "package", "version", "name"] {
            let text = interface.get(name).filter(|text| text.as_str() != Some(""));
            if let Some(text) = text {
                built.insert(name.to_owned(), text.clone());
            }
        }
        insert_list(
            &mut built,
            "interfaces",
            list(interface, "interfaces").cloned().collect(),
        );
        let mut config = if self.is(Mutant::UnresolvedInterfaceConfig) {
            let inline = interface.get("config").and_then(Value::as_object);
            inline.cloned().unwrap_or_default()
        } else {
            self.config(interface)?
        };
        self.add_aliases(interface, spec, &mut config);
        insert_map(&mut built, "config", config);
        Ok(Value::Object(built))
    }

    /// Adds the in-cluster names of `kubernetes.service` to an HTTP interface.
    fn add_aliases(&self, interface: &Value, spec: &Value, config: &mut Map<String, Value>) {
        let service = spec
            .pointer("/kubernetes/service/name")
            .and_then(Value::as_str);
        let is_http = interface.get("namespace") == Some(&json!("wasi"))
            && interface.get("package") == Some(&json!("http"));
        let is_handler = |name: &Value| {
            name == &json!("incoming-handler")
                || (name == &json!("handler") && !self.is(Mutant::AliasesForIncomingHandlerOnly))
        };
        let serves_http = is_http && list(interface, "interfaces").any(is_handler);
        let (Some(service), true) = (service, serves_http) else {
            return;
        };
        let (namespace, declared) = (self.namespace, config.get("host-aliases"));
        let mut aliases: Vec<String> = declared
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

    /// Merges inline values, configurations and secrets, in this order; a later value replaces an
    /// earlier one.
    fn config(&self, source: &Value) -> Result<Map<String, Value>, Blocked> {
        let mut values: Map<String, Value> = Map::new();
        let mut add = |more: Map<String, Value>| {
            for (key, value) in more {
                if !(self.is(Mutant::FirstValueWins) && values.contains_key(&key)) {
                    values.insert(key, value);
                }
            }
        };
        let inline = source.get("config").and_then(Value::as_object);
        add(inline.cloned().unwrap_or_default());
        for (list_name, kind) in [("configFrom", "ConfigMap"), ("secretFrom", "Secret")] {
            for reference in list(source, list_name) {
                let name = reference
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                match self.data(kind, name) {
                    Some(data) => add(data),
                    None if self.is(Mutant::StartsWithoutSecret) => {}
                    None => return Err(Blocked(format!("{kind} {name} does not exist"))),
                }
            }
        }
        Ok(values)
    }

    /// Returns the data of a ConfigMap or Secret in the namespace of the workload.
    fn data(&self, kind: &str, name: &str) -> Option<Map<String, Value>> {
        let key = format!("{kind}/{}/{name}", self.namespace);
        let in_any_namespace = || {
            let suffix = format!("/{name}");
            let mut objects = self.objects.iter();
            let found = objects.find(|(key, _)| key.starts_with(kind) && key.ends_with(&suffix));
            found.map(|(_, object)| object)
        };
        let own = self.objects.get(&key);
        let object = if self.is(Mutant::ReadsForeignNamespaces) {
            own.or_else(in_any_namespace)?
        } else {
            own?
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
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        Some(data)
    }

    /// Returns the credentials in a pull secret for the registry of an image.
    fn credentials(&self, secret: &str, image: &str) -> Result<Option<Value>, Blocked> {
        let missing = || Blocked(format!("Secret {secret} does not exist"));
        let data = self.data("Secret", secret).ok_or_else(missing)?;
        let text = data
            .get(".dockerconfigjson")
            .and_then(Value::as_str)
            .unwrap_or("{}");
        let config: Value = serde_json::from_str(text).unwrap_or_default();
        let registry = registry_of(image);
        let mut names = vec![registry.to_owned()];
        if registry == "docker.io" && !self.is(Mutant::IgnoresDockerHubEntry) {
            names.push("https://index.docker.io/v1/".to_owned());
        }
        let auths = config.get("auths").and_then(Value::as_object);
        let entry = auths.and_then(|auths| {
            if self.is(Mutant::SendsAnyCredentials) {
                auths.values().next()
            } else {
                names.iter().find_map(|name| auths.get(name))
            }
        });
        let Some(entry) = entry else {
            let empty = json!({ "username": "", "password": "" });
            return Ok(self.is(Mutant::SendsEmptyCredentials).then_some(empty));
        };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let (user, password) = match (text("username"), text("password"), text("auth")) {
            (Some(user), Some(password), _) => (user, password),
            (_, _, Some(auth)) => {
                let decoded = base64::decode(&auth).unwrap_or_default();
                let (user, password) = decoded.split_once(':').unwrap_or_default();
                (user.to_owned(), password.to_owned())
            }
            _ => return Ok(None),
        };
        Ok(Some(json!({ "username": user, "password": password })))
    }
}

/// Returns the registry of an image: Docker Hub if the first part is not a host name.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

fn volume(volume: &Value) -> Value {
    let mut built = Map::new();
    built.insert(
        "name".into(),
        volume.get("name").cloned().unwrap_or_default(),
    );
    let path = volume.pointer("/hostPath/path");
    match (volume.get("ephemeral"), path) {
        (None, Some(path)) => built.insert("hostPath".into(), json!({ "localPath": path })),
        _ => built.insert("emptyDir".into(), json!({})),
    };
    Value::Object(built)
}

fn copy_numbers(from: &Value, to: &mut Map<String, Value>, names: &[&str], with_zeros: bool) {
    for name in names {
        let number = from.get(*name).and_then(Value::as_i64).unwrap_or(0);
        if number != 0 || with_zeros {
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
