//! Placement: whether a host fits a workload.

use serde_json::Value;

use super::Mutant;
use super::reply::{member, number};

/// Checks whether a host fits a workload; returns the reason if it does not.
pub(super) fn check_host(
    spec: &Value,
    id: &str,
    heartbeat: &Value,
    mutant: Option<Mutant>,
) -> Result<(), String> {
    let is = |other: Mutant| mutant == Some(other);
    let pin = spec.get("hostId").and_then(Value::as_str);
    let is_pinned = pin == Some(id);
    if pin.is_some() && !is_pinned && !is(Mutant::PinIsAHint) {
        return Err("not named by the workload".to_owned());
    }
    if is_pinned && is(Mutant::PinOverridesSelector) {
        return Ok(());
    }
    let ignores_labels = is(Mutant::IgnoresSelector) || is(Mutant::PlacesUnschedulable);
    let labels = member(heartbeat, "labels", "labels", mutant);
    for (name, value) in spec
        .get("hostSelector")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let label = labels.and_then(|labels| labels.get(name));
        if label != Some(value) && !(ignores_labels && name != "hostgroup") {
            return Err(format!(
                "without the label {name}={}",
                value.as_str().unwrap_or_default()
            ));
        }
    }
    let environment = spec.get("environment").and_then(Value::as_str);
    let environment = environment.filter(|name| !name.is_empty());
    let of_host = member(heartbeat, "environment", "environment", mutant).and_then(Value::as_str);
    if environment.is_some() && environment != of_host && !is(Mutant::IgnoresEnvironment) {
        return Err("in another environment".to_owned());
    }
    for interface in spec
        .get("hostInterfaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        check_interface(interface, heartbeat, mutant)?;
    }
    Ok(())
}

fn check_interface(
    interface: &Value,
    heartbeat: &Value,
    mutant: Option<Mutant>,
) -> Result<(), String> {
    let is = |other: Mutant| mutant == Some(other);
    if is(Mutant::IgnoresImports) {
        return Ok(());
    }
    let text = |name: &str| {
        interface
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (namespace, package, version) = (text("namespace"), text("package"), text("version"));
    let names: Vec<&str> = interface
        .get("interfaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let missing = || Err(format!("without the interface {namespace}:{package}"));
    if namespace == "wasi" && package == "http" && !is(Mutant::RequiresHttpImport) {
        let serves = names
            .iter()
            .any(|name| matches!(*name, "incoming-handler" | "handler"));
        let port = number(member(heartbeat, "httpPort", "http_port", mutant), mutant);
        return if serves && port.unwrap_or(0.0) <= 0.0 {
            missing()
        } else {
            Ok(())
        };
    }
    let baseline = ["cli", "clocks", "random", "io", "filesystem", "sockets"];
    if namespace == "wasi" && baseline.contains(&package) && !is(Mutant::RequiresBaselineImports) {
        return Ok(());
    }
    let lists = ["imports", "exports"].map(|list| member(heartbeat, list, list, mutant));
    let offered = lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten();
    let matches = |offer: &Value| {
        let text = |name: &str| offer.get(name).and_then(Value::as_str).unwrap_or_default();
        let listed = offer.get("interfaces").and_then(Value::as_array);
        // An offer without names is one of the whole package.
        let listed = listed.filter(|listed| !listed.is_empty());
        let is_listed = |name: &&str| {
            listed.is_none_or(|listed| listed.iter().any(|item| item.as_str() == Some(*name)))
        };
        text("namespace") == namespace
            && text("package") == package
            && names.iter().all(is_listed)
            && (is(Mutant::IgnoresVersions) || are_compatible(version, text("version")))
    };
    if offered.into_iter().any(matches) {
        Ok(())
    } else {
        missing()
    }
}

/// Whether two interface versions are compatible: one is empty, both are equal, or both are
/// releases that are compatible by semantic versioning.
fn are_compatible(one: &str, other: &str) -> bool {
    if one.is_empty() || other.is_empty() || one == other {
        return true;
    }
    let release = |text: &str| -> Option<Vec<u64>> {
        let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.len() == 3)
    };
    match (release(one).as_deref(), release(other).as_deref()) {
        (Some([0, 0, one]), Some([0, 0, other])) => one == other,
        (Some([0, one, _]), Some([0, other, _])) => one == other,
        (Some([one, ..]), Some([other, ..])) => one == other,
        _ => false,
    }
}

/// Whether a host is out of processor time or memory, by its heartbeat.
pub(super) fn is_overloaded(heartbeat: &Value, mutant: Option<Mutant>) -> bool {
    let value = |camel, proto| number(member(heartbeat, camel, proto, mutant), mutant);
    let cpu = value("systemCpuUsage", "system_cpu_usage").unwrap_or(0.0);
    let total = value("systemMemoryTotal", "system_memory_total").unwrap_or(0.0);
    let free = value("systemMemoryFree", "system_memory_free").unwrap_or(0.0);
    cpu > 90.0 || (total > 0.0 && free < total / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_compatibility_follows_semantic_versioning() {
        for (one, other) in [
            ("", "1.0.0"),
            ("0.2.0-draft", "0.2.0-draft"),
            ("0.2.1", "0.2.6"),
            ("1.2.0", "1.0.0"),
        ] {
            assert!(are_compatible(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("0.2.0", "0.2.0-draft"),
            ("0.2.0", "0.3.0"),
            ("0.0.1", "0.0.2"),
            ("1.0.0", "2.0.0"),
        ] {
            assert!(!are_compatible(one, other), "{one} {other}");
        }
    }
}
