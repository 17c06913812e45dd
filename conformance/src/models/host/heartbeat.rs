//! What the model host says of itself.

use serde_json::{Value, json};

use super::mutant::{Mutant, Variant};

/// The facts that stay the same for the life of the process.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The host id.
    pub id: String,
    /// When the process began, RFC 3339 in UTC with milliseconds and without a zone.
    pub started_at: String,
    /// The deliberate fault.
    pub mutant: Option<Mutant>,
    /// The legal difference.
    pub variant: Option<Variant>,
}

impl Identity {
    /// The heartbeat number `count` of a host with that many workloads.
    #[must_use]
    pub fn heartbeat(&self, count: u64, workloads: usize) -> Value {
        let mut heartbeat = json!({
            "id": self.id,
            "hostname": "127.0.0.1",
            "friendlyName": self.friendly_name(count),
            "version": env!("CARGO_PKG_VERSION"),
            "labels": self.labels(),
            "startedAt": self.started_at(),
            "osArch": std::env::consts::ARCH,
            "osName": std::env::consts::OS,
            "osKernel": std::env::consts::FAMILY,
            "systemCpuUsage": 1.5,
            "systemMemoryTotal": "8589934592",
            "systemMemoryFree": "4294967296",
        });
        let Some(object) = heartbeat.as_object_mut() else {
            return heartbeat;
        };
        if self.mutant == Some(Mutant::NoFriendlyName) {
            object.remove("friendlyName");
        }
        let workloads = if self.mutant == Some(Mutant::WorkloadCountStale) {
            0
        } else {
            workloads
        };
        if workloads > 0 {
            object.insert("workloadCount".to_owned(), json!(workloads.to_string()));
        }
        if self.variant != Some(Variant::NoPlugins) {
            object.insert("imports".to_owned(), self.imports());
        }
        heartbeat
    }

    fn friendly_name(&self, count: u64) -> String {
        let tail: String = self
            .id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let tail = tail.to_ascii_lowercase();
        match self.mutant {
            Some(Mutant::FriendlyNameWithSpaces) => format!("Model Host {tail}"),
            Some(Mutant::FriendlyNameChanges) => format!("model-{tail}-{count}"),
            _ => format!("model-{tail}"),
        }
    }

    fn started_at(&self) -> String {
        let whole = self.started_at.split('.').next().unwrap_or_default();
        match self.variant {
            Some(Variant::TimeWithZ) => format!("{whole}Z"),
            Some(Variant::TimeWithOffset) => format!("{}000000+00:00", self.started_at),
            _ => format!("{}Z", self.started_at),
        }
    }

    fn labels(&self) -> Value {
        let mut labels = vec![("hostgroup", "default")];
        if self.variant == Some(Variant::MoreLabels) {
            labels.extend([
                ("zone", "a"),
                ("example.com/rack", "r-17"),
                ("example.com/empty", ""),
            ]);
        }
        if self.mutant == Some(Mutant::FalseAbilityLabel) {
            labels.push(("berth.dev/teleport", "false"));
        }
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)));
        Value::Object(labels.collect())
    }

    fn imports(&self) -> Value {
        let mut imports = vec![json!({
            "namespace": "berth-model", "package": "program", "interfaces": ["run"],
        })];
        if self.mutant == Some(Mutant::NamelessInterface) {
            imports.push(json!({ "namespace": "berth-model", "interfaces": ["thing"] }));
        }
        Value::Array(imports)
    }
}
