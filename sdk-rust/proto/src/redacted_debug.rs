//! `Debug` of the messages that may contain secrets: it prints keys and redacts values.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter, Result};

use crate::{ImagePullSecret, LocalResources, WitInterface};

impl Debug for ImagePullSecret {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ImagePullSecret")
            .field("username", &Redacted)
            .field("password", &Redacted)
            .finish()
    }
}

impl Debug for LocalResources {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("LocalResources")
            .field("memory_limit_mb", &self.memory_limit_mb)
            .field("cpu_limit", &self.cpu_limit)
            .field("config", &Keys(&self.config))
            .field("environment", &Keys(&self.environment))
            .field("volume_mounts", &self.volume_mounts)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_ip_name_lookups", &self.allowed_ip_name_lookups)
            .field(
                "allowed_host_loopback_ports",
                &self.allowed_host_loopback_ports,
            )
            .finish()
    }
}

impl Debug for WitInterface {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("WitInterface")
            .field("namespace", &self.namespace)
            .field("package", &self.package)
            .field("version", &self.version)
            .field("interfaces", &self.interfaces)
            .field("config", &Keys(&self.config))
            .field("name", &self.name)
            .finish()
    }
}

struct Redacted;

impl Debug for Redacted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[redacted]")
    }
}

struct Keys<'a>(&'a BTreeMap<String, String>);

impl Debug for Keys<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_map()
            .entries(self.0.keys().map(|key| (key, Redacted)))
            .finish()
    }
}
