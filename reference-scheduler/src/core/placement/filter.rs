//! The filters that reject hosts, in one table, and the explanation when they reject every host.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use berth_sdk::scheduler::Health;
use semver::Version;

use super::constraints::{DeclaredInterfaces, Environment, SchedulingConstraints};
use crate::core::fleet::{Fleet, Host, MAX_WORKLOADS_LABEL};

/// A check of one constraint.
type Filter = fn(&SchedulingConstraints, &Host, Duration) -> Option<FilterReason>;

/// All filters. The first filter that rejects a host provides the reason.
const FILTERS: [(&str, Filter); 7] = [
    ("pin", check_pin),
    ("health", check_health),
    ("drain", check_drain),
    ("labels", check_labels),
    ("environment", check_environment),
    ("interfaces", check_interfaces),
    ("capacity", check_capacity),
];

/// Reason that a filter rejects a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum FilterReason {
    NotPinned,
    Lost,
    Suspect,
    NoHeartbeat,
    Draining,
    Label(String),
    Environment,
    NoIngress,
    MissingInterface(String),
    Full,
}

impl fmt::Display for FilterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPinned => "not the pinned host",
            Self::Lost => "lost",
            Self::Suspect => "suspect",
            Self::NoHeartbeat => "without a heartbeat",
            Self::Draining => "draining",
            Self::Label(label) => return write!(f, "without the required label {label}"),
            Self::Environment => "in another environment",
            Self::NoIngress => "without an HTTP port",
            Self::MissingInterface(interface) => return write!(f, "without {interface}"),
            Self::Full => "full",
        })
    }
}

/// Returns the reason of the first filter that rejects the host.
pub(in crate::core) fn rejection_reason(
    constraints: &SchedulingConstraints,
    host: &Host,
    now: Duration,
) -> Option<FilterReason> {
    FILTERS
        .iter()
        .find_map(|(_, filter)| filter(constraints, host, now))
}

/// Explains why no host fits: `0/4 hosts fit: 2 without the required label zone, 1 lost, 1 without
/// wasi:keyvalue`.
pub(super) fn explain(constraints: &SchedulingConstraints, fleet: &Fleet, now: Duration) -> String {
    if let Environment::Denied(environment) = &constraints.environment {
        return format!(
            "environment {environment:?} is not the workload's namespace, and hosts are not shared"
        );
    }
    let mut counts: BTreeMap<FilterReason, usize> = BTreeMap::new();
    for (_, host) in fleet.iter() {
        if let Some(reason) = rejection_reason(constraints, host, now) {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if counts.is_empty() {
        "no hosts".to_owned()
    } else {
        format!("0/{} hosts fit: {}", fleet.len(), counts.join(", "))
    }
}

fn check_pin(
    constraints: &SchedulingConstraints,
    host: &Host,
    _: Duration,
) -> Option<FilterReason> {
    let pinned = constraints.host_id.as_deref()?;
    (*host.id != *pinned).then_some(FilterReason::NotPinned)
}

fn check_health(_: &SchedulingConstraints, host: &Host, _: Duration) -> Option<FilterReason> {
    match host.health {
        Health::Lost => Some(FilterReason::Lost),
        Health::Suspect => Some(FilterReason::Suspect),
        Health::Alive if host.last_heartbeat.is_none() => Some(FilterReason::NoHeartbeat),
        Health::Alive => None,
    }
}

fn check_drain(_: &SchedulingConstraints, host: &Host, now: Duration) -> Option<FilterReason> {
    (host.drained_since.is_some() || now < host.cordoned_until).then_some(FilterReason::Draining)
}

fn check_labels(
    constraints: &SchedulingConstraints,
    host: &Host,
    _: Duration,
) -> Option<FilterReason> {
    let labels = &host.last_heartbeat.as_ref()?.labels;
    let mut required = constraints.selector.iter();
    let (label, _) = required.find(|(label, value)| labels.get(*label) != Some(value))?;
    Some(FilterReason::Label(label.clone()))
}

fn check_environment(
    constraints: &SchedulingConstraints,
    host: &Host,
    _: Duration,
) -> Option<FilterReason> {
    let fits = match &constraints.environment {
        Environment::Any => true,
        Environment::Only(environment) => host.last_heartbeat.as_ref()?.environment == *environment,
        Environment::Denied(_) => false,
    };
    (!fits).then_some(FilterReason::Environment)
}

fn check_interfaces(
    constraints: &SchedulingConstraints,
    host: &Host,
    _: Duration,
) -> Option<FilterReason> {
    let heartbeat = host.last_heartbeat.as_ref()?;
    if constraints.serves_http && heartbeat.http_port == 0 {
        return Some(FilterReason::NoIngress);
    }
    constraints
        .interfaces
        .iter()
        .find_map(|declared| missing_interface(declared, heartbeat))
        .map(FilterReason::MissingInterface)
}

/// Returns the package, or the first of its interfaces, that the host does not offer.
fn missing_interface(declared: &DeclaredInterfaces, heartbeat: &HostHeartbeat) -> Option<String> {
    let DeclaredInterfaces {
        package,
        version,
        names,
    } = declared;
    let offered: Vec<_> = heartbeat
        .imports
        .iter()
        .chain(&heartbeat.exports)
        .filter(|offer| {
            let same = package.split_once(':') == Some((&offer.namespace, &offer.package));
            same && is_compatible(version, &offer.version)
        })
        .collect();
    // An entry without names offers the whole package.
    let is_offered = |name: &String| {
        let mut offered = offered.iter();
        offered.any(|offer| offer.interfaces.is_empty() || offer.interfaces.contains(name))
    };
    let missing = names.iter().find(|name| !is_offered(name));
    if missing.is_none() && !offered.is_empty() {
        return None;
    }
    let name = missing.filter(|_| !offered.is_empty());
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    let at = if version.is_empty() { "" } else { "@" };
    Some(format!("{package}{name}{at}{version}"))
}

fn check_capacity(_: &SchedulingConstraints, host: &Host, _: Duration) -> Option<FilterReason> {
    let limit = host
        .last_heartbeat
        .as_ref()?
        .labels
        .get(MAX_WORKLOADS_LABEL)?;
    let limit: u32 = limit.parse().ok()?;
    (host.workload_count() >= limit).then_some(FilterReason::Full)
}

/// Returns whether an offered version satisfies a declared version. A missing version matches any
/// version, and a prerelease only itself. Otherwise the versions must be compatible by semantic
/// versioning, and either may be newer.
fn is_compatible(declared: &str, offered: &str) -> bool {
    if declared.is_empty() || offered.is_empty() || declared == offered {
        return true;
    }
    let (Ok(declared), Ok(offered)) = (Version::parse(declared), Version::parse(offered)) else {
        return false;
    };
    if !declared.pre.is_empty() || !offered.pre.is_empty() {
        return declared.cmp_precedence(&offered).is_eq();
    }
    let track = |version: &Version| match (version.major, version.minor) {
        (0, 0) => (0, 0, version.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    track(&declared) == track(&offered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_offered_by_name_or_as_a_whole_package() {
        let entry = |package: &str, names: &[&str]| berth_proto::WitInterface {
            namespace: "acme".into(),
            package: package.into(),
            interfaces: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let heartbeat = HostHeartbeat {
            imports: vec![entry("store", &["store"]), entry("whole", &[])],
            exports: vec![entry("store", &["watch"])],
            ..Default::default()
        };
        for (package, names, missing) in [
            ("acme:store", &["store", "watch"][..], None),
            ("acme:store", &["batch", "store"], Some("acme:store/batch")),
            ("acme:whole", &["any"], None),
            ("acme:queue", &["push"], Some("acme:queue")),
            ("wasi:store", &["store"], Some("wasi:store")),
            ("acme:store", &[], None),
        ] {
            let declared = DeclaredInterfaces {
                package: package.into(),
                version: String::new(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
            };
            let found = missing_interface(&declared, &heartbeat);
            assert_eq!(found.as_deref(), missing, "{package} {names:?}");
        }
    }

    #[test]
    fn compatibility_follows_semantic_versioning() {
        for (declared, offered, fits) in [
            ("", "1.0.0", true),
            ("0.2.0", "", true),
            ("0.2.0", "0.2.6", true),
            ("0.2.0", "0.3.0", false),
            ("0.2.0-draft", "0.2.0-draft", true),
            ("0.2.0-draft", "0.2.0", false),
            ("1.2.0", "1.9.0", true),
            ("1.2.0", "2.0.0", false),
            ("0.0.1", "0.0.2", false),
            ("invalid", "0.2.0", false),
        ] {
            assert_eq!(
                is_compatible(declared, offered),
                fits,
                "{declared} {offered}"
            );
        }
    }
}
