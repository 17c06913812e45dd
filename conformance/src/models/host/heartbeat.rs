//! The heartbeats of the model host.

use serde_json::{Value, json};

use super::mutant::{Mutant, Variant};

/// Properties of a host that do not change during its lifetime.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Host id.
    pub id: String,
    /// Start of the process, in RFC 3339 format, in UTC with milliseconds and without a zone.
    pub started_at: String,
    /// Injected fault.
    pub mutant: Option<Mutant>,
    /// Conforming variant.
    pub variant: Option<Variant>,
}

impl Identity {
    /// Returns the heartbeat of a host with `workloads` workloads that has sent `count` heartbeats
    /// before.
    #[must_use]
    pub fn heartbeat(&self, count: u64, workloads: usize) -> Value {
        let mut heartbeat = json!({
            "id": self.id,
            "hostname": self.hostname(),
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
        let workloads = if self.mutant == Some(Mutant::ConstantWorkloadCount) {
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

    fn hostname(&self) -> &'static str {
        match self.mutant {
            Some(Mutant::HostnameWithPort) => "127.0.0.1:8000",
            _ => "127.0.0.1",
        }
    }

    fn friendly_name(&self, count: u64) -> String {
        let suffix: String = self
            .id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let suffix = suffix.to_ascii_lowercase();
        match self.mutant {
            Some(Mutant::FriendlyNameWithSpaces) => format!("Model Host {suffix}"),
            Some(Mutant::UnstableFriendlyName) => format!("model-{suffix}-{count}"),
            _ => format!("model-{suffix}"),
        }
    }

    fn started_at(&self) -> String {
        let seconds = self.started_at.split('.').next().unwrap_or_default();
        match self.variant {
            Some(Variant::TimestampWithoutFraction) => format!("{seconds}Z"),
            Some(Variant::TimestampWithOffset) => format!("{}000000+00:00", self.started_at),
            _ => format!("{}Z", self.started_at),
        }
    }

    fn labels(&self) -> Value {
        let mut labels = vec![("hostgroup", "default")];
        if self.variant == Some(Variant::ExtraLabels) {
            labels.extend([
                ("zone", "a"),
                ("example.com/rack", "r-17"),
                ("example.com/empty", ""),
            ]);
        }
        if self.mutant == Some(Mutant::FalseExtensionLabel) {
            labels.push(("berth.dev/teleport", "false"));
        }
        if self.mutant == Some(Mutant::AnnouncesDiscoveryOnly) {
            labels.push(("berth.dev/discover", "true"));
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
        if self.mutant == Some(Mutant::InterfaceWithoutPackage) {
            imports.push(json!({ "namespace": "berth-model", "interfaces": ["thing"] }));
        }
        Value::Array(imports)
    }
}
