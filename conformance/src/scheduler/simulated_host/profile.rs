//! What simulated hosts say of themselves: like `berth-host`, or like `wash host` 2.7.0. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// Whose manners a simulated host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostFlavor {
    /// Concurrent, answers everything, says STARTING after a while, keeps its id.
    #[default]
    Berth,
    /// `wash host` 2.7.0: one command at a time, no heartbeat meanwhile, no answer to what it cannot
    /// decode, no record of a failed pull, no http among its imports, a new id with each process.
    Wash,
}

/// A simulated host before it is up.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// What the scenario calls it.
    pub name: String,
    /// Its manners.
    pub look: HostFlavor,
    /// Its id; a new one is made up when absent.
    pub id: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How often it beats.
    pub beat_every: Duration,
    /// How long a start takes it.
    pub start_takes: Duration,
    /// How long it takes to come back after its connection is lost.
    pub reconnect_after: Duration,
    /// Members of its heartbeat that are not what they would be; null takes one out.
    pub facts: Map<String, Value>,
}

impl HostPlan {
    /// A host of a host group.
    pub fn new(name: &str, group: &str) -> HostPlan {
        HostPlan {
            name: name.to_owned(),
            look: HostFlavor::Berth,
            id: None,
            labels: BTreeMap::from([("hostgroup".to_owned(), group.to_owned())]),
            beat_every: Duration::from_secs(15),
            start_takes: Duration::from_millis(10),
            reconnect_after: Duration::from_millis(50),
            facts: Map::new(),
        }
    }

    /// With other manners.
    pub fn look(self, look: HostFlavor) -> HostPlan {
        HostPlan { look, ..self }
    }

    /// With that label.
    pub fn label(mut self, name: &str, value: &str) -> HostPlan {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With that member in its heartbeat.
    pub fn fact(mut self, name: &str, value: Value) -> HostPlan {
        self.facts.insert(name.to_owned(), value);
        self
    }

    /// A start takes that long.
    pub fn slow(self, start_takes: Duration) -> HostPlan {
        HostPlan {
            start_takes,
            ..self
        }
    }
}

/// The heartbeat of a host that runs so many workloads.
pub fn heartbeat(plan: &HostPlan, id: &str, started_at: &str, workloads: usize) -> Value {
    let mut beat = Map::new();
    let mut say = |name: &str, value: Value| {
        beat.insert(name.to_owned(), value);
    };
    say("id", json!(id));
    say("hostname", json!("127.0.0.1"));
    say("friendlyName", json!(friendly_name(&plan.name, id)));
    say("labels", json!(plan.labels));
    say("startedAt", json!(started_at));
    say("osArch", json!("x86_64"));
    say("osName", json!("linux"));
    say("systemCpuUsage", json!(12.5));
    say("systemMemoryTotal", json!("16000000000"));
    say("systemMemoryFree", json!("12000000000"));
    say("httpPort", json!(8080));
    match plan.look {
        HostFlavor::Berth => {
            say("version", json!("0.1.0"));
            say("osKernel", json!("6.12.0"));
            say(
                "imports",
                imports(&[
                    ("wasi", "http", "0.2.0"),
                    ("wasi", "config", "0.2.0-rc.1"),
                    ("wasi", "keyvalue", "0.2.0-draft"),
                ]),
            );
        }
        HostFlavor::Wash => {
            say("version", json!("2.7.0"));
            say("osKernel", json!("unix"));
            say(
                "imports",
                imports(&[
                    ("wasi", "config", "0.2.0-rc.1"),
                    ("wasi", "keyvalue", ""),
                    ("wasi", "blobstore", "0.2.0-draft"),
                ]),
            );
        }
    }
    // Proto JSON leaves zero out.
    if workloads > 0 {
        say("workloadCount", json!(workloads.to_string()));
        say("componentCount", json!(workloads.to_string()));
    }
    for (name, value) in &plan.facts {
        match value {
            Value::Null => beat.remove(name),
            value => beat.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(beat)
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

/// A DNS-1123 name that no other host has.
fn friendly_name(name: &str, id: &str) -> String {
    let tail: String = id.chars().rev().take(8).collect();
    let plain = |text: &str| -> String {
        text.to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect()
    };
    format!(
        "{}-{}x",
        plain(name).trim_matches('-'),
        plain(&tail).trim_matches('-')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_written_as_the_schema_demands() {
        for look in [HostFlavor::Berth, HostFlavor::Wash] {
            let plan = HostPlan::new("a", "g").look(look);
            let beat = heartbeat(&plan, "0a1b2c3d4e", "2026-11-23T08:00:00.000Z", 3).to_string();
            assert_eq!(
                crate::wire::json_judge::judge(beat.as_bytes(), "HostHeartbeat"),
                []
            );
        }
        let plan = HostPlan::new("a", "g").fact("httpPort", Value::Null);
        assert!(
            heartbeat(&plan, "h", "2026-11-23T08:00:00.000Z", 0)
                .get("httpPort")
                .is_none()
        );
    }
}
