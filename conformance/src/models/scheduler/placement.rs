//! On which host a replica goes. Pure.

use serde_json::Value;

use super::Mutant;
use super::reply::{member, number};

/// What a workload says of where it may run, against what a host says of itself: `Err` with the reason.
pub(super) fn fits(
    spec: &Value,
    id: &str,
    beat: &Value,
    mutant: Option<Mutant>,
) -> Result<(), String> {
    let is = |other: Mutant| mutant == Some(other);
    let pin = spec.get("hostId").and_then(Value::as_str);
    let pinned = pin == Some(id);
    if pin.is_some() && !pinned && !is(Mutant::PinIsAHint) {
        return Err("is not the host that it names".to_owned());
    }
    if pinned && is(Mutant::PinBeatsSelector) {
        return Ok(());
    }
    let ignores = is(Mutant::IgnoresSelector) || is(Mutant::PlacesAnyway);
    let labels = member(beat, "labels", "labels", mutant);
    for (name, value) in spec
        .get("hostSelector")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let has = labels.and_then(|labels| labels.get(name));
        if has != Some(value) && !(ignores && name != "hostgroup") {
            return Err(format!(
                "lacks the label {name}={}",
                value.as_str().unwrap_or_default()
            ));
        }
    }
    let environment = spec.get("environment").and_then(Value::as_str);
    let environment = environment.filter(|name| !name.is_empty());
    let theirs = member(beat, "environment", "environment", mutant).and_then(Value::as_str);
    if environment.is_some() && environment != theirs && !is(Mutant::IgnoresEnvironment) {
        return Err("is of another environment".to_owned());
    }
    for interface in spec
        .get("hostInterfaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        offers(interface, beat, mutant)?;
    }
    Ok(())
}

fn offers(interface: &Value, beat: &Value, mutant: Option<Mutant>) -> Result<(), String> {
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
    let missing = || Err(format!("does not offer {namespace}:{package}"));
    if namespace == "wasi" && package == "http" && !is(Mutant::HttpByImports) {
        let serves = names
            .iter()
            .any(|name| matches!(*name, "incoming-handler" | "handler"));
        let port = number(member(beat, "httpPort", "http_port", mutant), mutant);
        return if serves && port.unwrap_or(0.0) <= 0.0 {
            missing()
        } else {
            Ok(())
        };
    }
    let baseline = ["cli", "clocks", "random", "io", "filesystem", "sockets"];
    if namespace == "wasi" && baseline.contains(&package) && !is(Mutant::BaselineByImports) {
        return Ok(());
    }
    let lists = ["imports", "exports"].map(|list| member(beat, list, list, mutant));
    let offered = lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten();
    let agrees = |offer: &Value| {
        let theirs = |name: &str| offer.get(name).and_then(Value::as_str).unwrap_or_default();
        let listed = offer.get("interfaces").and_then(Value::as_array);
        let has = |name: &&str| {
            listed.is_some_and(|listed| listed.iter().any(|item| item.as_str() == Some(*name)))
        };
        theirs("namespace") == namespace
            && theirs("package") == package
            && (names.iter().all(has))
            && (is(Mutant::IgnoresVersions) || versions_agree(version, theirs("version")))
    };
    if offered.into_iter().any(agrees) {
        Ok(())
    } else {
        missing()
    }
}

/// One gives none, or they are equal, or both are releases that semantic versioning calls compatible.
fn versions_agree(one: &str, other: &str) -> bool {
    if one.is_empty() || other.is_empty() || one == other {
        return true;
    }
    let release = |text: &str| -> Option<Vec<u64>> {
        let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.len() == 3)
    };
    match (release(one).as_deref(), release(other).as_deref()) {
        (Some([0, 0, patch]), Some([0, 0, theirs])) => patch == theirs,
        (Some([0, minor, _]), Some([0, theirs, _])) => minor == theirs,
        (Some([major, ..]), Some([theirs, ..])) => major == theirs,
        _ => false,
    }
}

/// Whether a host says that it is out of processor time or memory.
pub(super) fn is_loaded(beat: &Value, mutant: Option<Mutant>) -> bool {
    let figure = |camel, proto| number(member(beat, camel, proto, mutant), mutant);
    let cpu = figure("systemCpuUsage", "system_cpu_usage").unwrap_or(0.0);
    let total = figure("systemMemoryTotal", "system_memory_total").unwrap_or(0.0);
    let free = figure("systemMemoryFree", "system_memory_free").unwrap_or(0.0);
    cpu > 90.0 || (total > 0.0 && free < total / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_agree_as_the_specification_has_it() {
        for (one, other) in [
            ("", "1.0.0"),
            ("0.2.0-draft", "0.2.0-draft"),
            ("0.2.1", "0.2.6"),
            ("1.2.0", "1.0.0"),
        ] {
            assert!(versions_agree(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("0.2.0", "0.2.0-draft"),
            ("0.2.0", "0.3.0"),
            ("0.0.1", "0.0.2"),
            ("1.0.0", "2.0.0"),
        ] {
            assert!(!versions_agree(one, other), "{one} {other}");
        }
    }
}
