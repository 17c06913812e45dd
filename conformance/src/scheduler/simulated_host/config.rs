//! Configuration of a simulated host, and its heartbeat: that of `berth-host` or of `wash host`
//! 2.7.0. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::wire::response::Headers;

/// Host program that a simulated host imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostFlavor {
    /// `berth-host`: executes commands concurrently, replies to all of them, replies with STARTING
    /// to a long start, and keeps its id.
    #[default]
    Berth,
    /// `wash host` 2.7.0: executes one command at a time and sends no heartbeat during a command,
    /// does not reply to a request that it cannot decode, does not record a failed pull, omits http
    /// from its imports, and has a new id after each restart.
    Wash,
}

/// Configuration of a simulated host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Name in the scenario.
    pub name: String,
    /// Host program that the simulated host imitates.
    pub flavor: HostFlavor,
    /// ID of the host [default: a random id].
    pub id: Option<String>,
    /// Labels of the host.
    pub labels: BTreeMap<String, String>,
    /// Interval between heartbeats.
    pub heartbeat_interval: Duration,
    /// Duration of a start.
    pub start_duration: Duration,
    /// Delay between the loss of the connection and the reconnect.
    pub reconnect_delay: Duration,
    /// Fields that replace those of the heartbeat. Null removes a field.
    pub heartbeat_fields: Map<String, Value>,
    /// Payload of every heartbeat, which replaces all other fields.
    pub fixed_heartbeat: Option<Value>,
    /// Additional headers of all replies.
    pub reply_headers: Headers,
    /// Whether the host sends heartbeats without a subscription, so that all commands have no
    /// responders.
    pub has_no_responders: bool,
}

impl HostConfig {
    /// Returns the configuration of a host in a host group.
    pub fn new(name: &str, group: &str) -> HostConfig {
        HostConfig {
            name: name.to_owned(),
            flavor: HostFlavor::Berth,
            id: None,
            labels: BTreeMap::from([("hostgroup".to_owned(), group.to_owned())]),
            heartbeat_interval: Duration::from_secs(15),
            start_duration: Duration::from_millis(10),
            reconnect_delay: Duration::from_millis(50),
            heartbeat_fields: Map::new(),
            fixed_heartbeat: None,
            reply_headers: Headers::none(),
            has_no_responders: false,
        }
    }

    /// Sets the host program that the simulated host imitates.
    pub fn flavor(self, flavor: HostFlavor) -> HostConfig {
        HostConfig { flavor, ..self }
    }

    /// Adds a label.
    pub fn label(mut self, name: &str, value: &str) -> HostConfig {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a field of the heartbeat.
    pub fn heartbeat_field(mut self, name: &str, value: Value) -> HostConfig {
        self.heartbeat_fields.insert(name.to_owned(), value);
        self
    }

    /// Adds a header to all replies.
    pub fn reply_header(self, name: &str, value: &str) -> HostConfig {
        HostConfig {
            reply_headers: self.reply_headers.with(name, value),
            ..self
        }
    }

    /// Sets the duration of a start.
    pub fn start_duration(self, start_duration: Duration) -> HostConfig {
        HostConfig {
            start_duration,
            ..self
        }
    }
}

/// Returns the heartbeat of a host with `workloads` workloads.
pub fn heartbeat(config: &HostConfig, id: &str, started_at: &str, workloads: usize) -> Value {
    let mut heartbeat = Map::new();
    let mut set = |name: &str, value: Value| {
        heartbeat.insert(name.to_owned(), value);
    };
    set("id", json!(id));
    set("hostname", json!("127.0.0.1"));
    set("friendlyName", json!(friendly_name(&config.name, id)));
    set("labels", json!(config.labels));
    set("startedAt", json!(started_at));
    set("osArch", json!("x86_64"));
    set("osName", json!("linux"));
    set("systemCpuUsage", json!(12.5));
    set("systemMemoryTotal", json!("16000000000"));
    set("systemMemoryFree", json!("12000000000"));
    set("httpPort", json!(8080));
    match config.flavor {
        HostFlavor::Berth => {
            set("version", json!("0.1.0"));
            set("osKernel", json!("6.12.0"));
            set(
                "imports",
                imports(&[
                    ("wasi", "http", "0.2.0"),
                    ("wasi", "config", "0.2.0-rc.1"),
                    ("wasi", "keyvalue", "0.2.0-draft"),
                ]),
            );
        }
        HostFlavor::Wash => {
            set("version", json!("2.7.0"));
            set("osKernel", json!("unix"));
            set(
                "imports",
                imports(&[
                    ("wasi", "config", "0.2.0-rc.1"),
                    ("wasi", "keyvalue", ""),
                    ("wasi", "blobstore", "0.2.0-draft"),
                ]),
            );
        }
    }
    // Proto JSON omits zero.
    if workloads > 0 {
        set("workloadCount", json!(workloads.to_string()));
        set("componentCount", json!(workloads.to_string()));
    }
    for (name, value) in &config.heartbeat_fields {
        match value {
            Value::Null => heartbeat.remove(name),
            value => heartbeat.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(heartbeat)
}

fn imports(packages: &[(&str, &str, &str)]) -> Value {
    let import = |(namespace, package, version): &(&str, &str, &str)| {
        let interface = match *package {
            "http" => "incoming-handler",
            "blobstore" => "container",
            _ => "store",
        };
        let mut import =
            json!({ "namespace": namespace, "package": package, "interfaces": [interface] });
        if let (Some(import), false) = (import.as_object_mut(), version.is_empty()) {
            import.insert("version".to_owned(), json!(version));
        }
        import
    };
    Value::Array(packages.iter().map(import).collect())
}

/// Returns a unique DNS-1123 name.
fn friendly_name(name: &str, id: &str) -> String {
    let tail: String = id.chars().rev().take(8).collect();
    let dns_label = |text: &str| -> String {
        text.to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect()
    };
    format!(
        "{}-{}x",
        dns_label(name).trim_matches('-'),
        dns_label(&tail).trim_matches('-')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_conform_to_schema() {
        for flavor in [HostFlavor::Berth, HostFlavor::Wash] {
            let config = HostConfig::new("a", "g").flavor(flavor);
            let workloads = 3;
            let started_at = "2026-11-23T08:00:00.000Z";
            let heartbeat = heartbeat(&config, "0a1b2c3d4e", started_at, workloads);
            let payload = heartbeat.to_string();
            assert_eq!(
                crate::wire::json_judge::judge(payload.as_bytes(), "HostHeartbeat"),
                []
            );
        }
        let config = HostConfig::new("a", "g").heartbeat_field("httpPort", Value::Null);
        let workloads = 0;
        let heartbeat = heartbeat(&config, "h", "2026-11-23T08:00:00.000Z", workloads);
        assert!(heartbeat.get("httpPort").is_none());
    }
}
