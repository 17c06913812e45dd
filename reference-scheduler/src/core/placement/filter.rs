//! What speaks against a host, in one table, and how that is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use berth_sdk::scheduler::Health;
use semver::Version;

use super::shape::{Environment, Shape};
use crate::core::fleet::{Fleet, Host, MAX_WORKLOADS_LABEL};

/// Looks at one aspect.
type Filter = fn(&Shape, &Host, Duration) -> Option<Refusal>;

/// All that can speak against a host; the first that does is told.
const FILTERS: [(&str, Filter); 7] = [
    ("pin", another_pinned),
    ("health", unwell),
    ("drain", draining),
    ("labels", another_label),
    ("environment", another_environment),
    ("interfaces", lacks_interface),
    ("capacity", full),
];

/// Why not this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Refusal {
    NotPinned,
    Lost,
    Suspect,
    Unheard,
    Draining,
    Label(String),
    Environment,
    NoIngress,
    Lacks(String),
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPinned => "not the pinned host",
            Self::Lost => "lost",
            Self::Suspect => "not heard of lately",
            Self::Unheard => "without a heartbeat yet",
            Self::Draining => "draining",
            Self::Label(label) => return write!(f, "label {label}"),
            Self::Environment => "another environment",
            Self::NoIngress => "without an HTTP port",
            Self::Lacks(package) => return write!(f, "lacks {package}"),
            Self::Full => "full",
        })
    }
}

/// The first thing that speaks against this host.
pub(in crate::core) fn refusal(shape: &Shape, host: &Host, now: Duration) -> Option<Refusal> {
    FILTERS
        .iter()
        .find_map(|(_, filter)| filter(shape, host, now))
}

/// Why nothing fits: `0/4 hosts fit: 2 label hostgroup, 1 lost, 1 lacks wasi:keyvalue`.
pub(super) fn explain(shape: &Shape, fleet: &Fleet, now: Duration) -> String {
    if let Environment::Denied(environment) = &shape.environment {
        return format!(
            "environment {environment:?} is not its namespace, and hosts are not shared"
        );
    }
    let mut counts: BTreeMap<Refusal, usize> = BTreeMap::new();
    for (_, host) in fleet.iter() {
        if let Some(refusal) = refusal(shape, host, now) {
            *counts.entry(refusal).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(refusal, count)| format!("{count} {refusal}"))
        .collect();
    match counts.is_empty() {
        true => "there are no hosts".to_owned(),
        false => format!("0/{} hosts fit: {}", fleet.len(), counts.join(", ")),
    }
}

fn another_pinned(shape: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    let pinned = shape.host_id.as_deref()?;
    (*host.id != *pinned).then_some(Refusal::NotPinned)
}

fn unwell(_: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    match host.health {
        Health::Lost => Some(Refusal::Lost),
        Health::Suspect => Some(Refusal::Suspect),
        Health::Alive if host.report.is_none() => Some(Refusal::Unheard),
        Health::Alive => None,
    }
}

fn draining(_: &Shape, host: &Host, now: Duration) -> Option<Refusal> {
    (host.drained_since.is_some() || now < host.hold_until).then_some(Refusal::Draining)
}

fn another_label(shape: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    let labels = &host.report.as_ref()?.labels;
    let mut wanted = shape.selector.iter();
    let (label, _) = wanted.find(|(label, value)| labels.get(*label) != Some(value))?;
    Some(Refusal::Label(label.clone()))
}

fn another_environment(shape: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    let fits = match &shape.environment {
        Environment::Any => true,
        Environment::Only(environment) => host.report.as_ref()?.environment == *environment,
        Environment::Denied(_) => false,
    };
    (!fits).then_some(Refusal::Environment)
}

fn lacks_interface(shape: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    let report = host.report.as_ref()?;
    if shape.serves_http && report.http_port == 0 {
        return Some(Refusal::NoIngress);
    }
    let lacking = |(package, version): &&(String, String)| {
        let mut offered = report.imports.iter().chain(&report.exports);
        !offered.any(|offer| {
            let same = package.split_once(':') == Some((&offer.namespace, &offer.package));
            same && is_compatible(version, &offer.version)
        })
    };
    let (package, version) = shape.packages.iter().find(lacking)?;
    let at = if version.is_empty() { "" } else { "@" };
    Some(Refusal::Lacks(format!("{package}{at}{version}")))
}

fn full(_: &Shape, host: &Host, _: Duration) -> Option<Refusal> {
    let limit = host.report.as_ref()?.labels.get(MAX_WORKLOADS_LABEL)?;
    let limit: u32 = limit.parse().ok()?;
    (host.load() >= limit).then_some(Refusal::Full)
}

/// Whether one version will do for another: any for none, else by the rule of semantic versioning,
/// without regard to which is newer, and drafts only for themselves.
fn is_compatible(wanted: &str, offered: &str) -> bool {
    if wanted.is_empty() || offered.is_empty() || wanted == offered {
        return true;
    }
    let (Ok(wanted), Ok(offered)) = (Version::parse(wanted), Version::parse(offered)) else {
        return false;
    };
    if !wanted.pre.is_empty() || !offered.pre.is_empty() {
        return wanted.cmp_precedence(&offered).is_eq();
    }
    let track = |version: &Version| match (version.major, version.minor) {
        (0, 0) => (0, 0, version.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    track(&wanted) == track(&offered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_rule() {
        for (wanted, offered, fits) in [
            ("", "1.0.0", true),
            ("0.2.0", "", true),
            ("0.2.0", "0.2.6", true),
            ("0.2.0", "0.3.0", false),
            ("0.2.0-draft", "0.2.0-draft", true),
            ("0.2.0-draft", "0.2.0", false),
            ("1.2.0", "1.9.0", true),
            ("1.2.0", "2.0.0", false),
            ("0.0.1", "0.0.2", false),
            ("junk", "0.2.0", false),
        ] {
            assert_eq!(is_compatible(wanted, offered), fits, "{wanted} {offered}");
        }
    }
}
