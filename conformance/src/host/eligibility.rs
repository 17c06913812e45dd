//! Decides before a check runs whether this target can be asked at all. Pure.

use std::collections::BTreeMap;

use super::check::{Body, Check, Need};
use super::target::Target;
use crate::check::isolation::HostIsolation;
use crate::spec::roles::Role;
use crate::testbed::images::Images;

/// What is known of the target before anything runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The suite launches it.
    pub launched: bool,
    /// It has an HTTP ingress.
    pub ingress: bool,
    /// Declared features.
    pub features: BTreeMap<String, bool>,
    /// Roles that nothing can play.
    pub roles_missing: Vec<Role>,
}

impl Facts {
    /// What is known of a target whose shared host is up.
    pub fn of(target: &Target, images: &Images, ingress: bool) -> Facts {
        let missing = |role: &Role| images.artifact(*role).is_err();
        Facts {
            launched: target.launch().is_some(),
            ingress,
            features: target.features.clone(),
            roles_missing: Role::ALL.iter().copied().filter(missing).collect(),
        }
    }
}

/// What to do with a check.
#[derive(Clone)]
pub enum Gate {
    /// Run its body.
    Run,
    /// The target declares this feature absent: verify that it refuses its use.
    Refusal(Body, &'static str),
    /// A prerequisite is missing.
    NotTestable(String),
}

/// Decides about one check.
pub fn gate(check: &Check, facts: &Facts) -> Gate {
    if check.host == HostIsolation::Own && !facts.launched {
        return missing("a host of its own, and this target cannot be launched (give a command)");
    }
    for need in check.needs {
        match need {
            Need::Tap if !facts.launched => {
                return missing("the tap, and this host does not connect through the suite");
            }
            Need::Process if !facts.launched => {
                return missing("the host's process, and the suite did not launch it");
            }
            Need::Ingress if !facts.ingress => {
                return missing("HTTP ingress, and the host announces no httpPort");
            }
            Need::Tap | Need::Process | Need::Ingress | Need::Registry => {}
        }
    }
    if let Some(role) = check
        .roles
        .iter()
        .find(|role| facts.roles_missing.contains(role))
    {
        return missing(&format!(
            "the role `{role}`, and target.toml brings no image for it"
        ));
    }
    match check.feature {
        Some((feature, refused)) if facts.features.get(feature) == Some(&false) => {
            Gate::Refusal(refused, feature)
        }
        _ => Gate::Run,
    }
}

fn missing(what: &str) -> Gate {
    Gate::NotTestable(format!("needs {what}"))
}

/// Sections whose checks ask for what gRPC can carry: workloads, and what becomes of them.
const SECTIONS: [&str; 7] = ["start", "status", "stop", "svc", "img", "http", "res"];

/// Checks of these sections that speak of heartbeats, or of requests that are no message at all.
const ABOUT_NATS: [&str; 4] = [
    "start/heartbeats-go-on",
    "start/errors-have-words",
    "http/http-port",
    "res/config",
];

/// Whether a check asks nothing of a host but what gRPC has calls for.
pub fn carries(check: &Check) -> bool {
    check.host != HostIsolation::Own
        && !check
            .needs
            .iter()
            .any(|need| matches!(need, Need::Tap | Need::Process))
        && SECTIONS.contains(&check.section())
        && !ABOUT_NATS.contains(&check.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::checks;

    #[test]
    fn what_is_named_exists() {
        let ids: Vec<&str> = checks::all().map(|check| check.id).collect();
        for id in ABOUT_NATS {
            assert!(ids.contains(&id), "{id}");
        }
        let carried = checks::all().filter(|check| carries(check)).count();
        assert!(carried > 50, "{carried}");
    }
}
