//! Decides before a check runs whether it can run on this target. Pure.

use std::collections::BTreeMap;

use super::check::{Check, CheckBody, Need};
use super::target::Target;
use crate::check::isolation::HostIsolation;
use crate::spec::roles::Role;
use crate::testbed::images::Images;

/// Properties of the target that are known before any check runs.
#[derive(Debug, Clone)]
pub struct TargetFacts {
    /// Whether the suite launches the target.
    pub launched: bool,
    /// Whether the target has an HTTP ingress.
    pub ingress: bool,
    /// Features that the target declares present or absent.
    pub features: BTreeMap<String, bool>,
    /// Roles without an image.
    pub missing_roles: Vec<Role>,
}

impl TargetFacts {
    /// Collects the facts about a target whose shared host is running.
    pub fn new(target: &Target, images: &Images, ingress: bool) -> TargetFacts {
        let missing = |role: &Role| images.artifact(*role).is_err();
        TargetFacts {
            launched: target.launch().is_some(),
            ingress,
            features: target.features.clone(),
            missing_roles: Role::ALL.iter().copied().filter(missing).collect(),
        }
    }
}

/// Whether and how a check runs on a target.
#[derive(Clone)]
pub enum Eligibility {
    /// The body of the check runs.
    Run,
    /// The target declares this feature absent; this body verifies that its use is refused.
    Refusal(CheckBody, &'static str),
    /// A prerequisite is missing, for this reason.
    NotTestable(String),
}

/// Decides whether and how a check runs.
pub fn check_eligibility(check: &Check, facts: &TargetFacts) -> Eligibility {
    if check.host == HostIsolation::Own && !facts.launched {
        return missing(
            "a host of its own, but the suite cannot launch this target (pass a command)",
        );
    }
    for need in check.needs {
        match need {
            Need::Tap if !facts.launched => {
                return missing("the tap, but the host does not connect through the suite");
            }
            Need::Process if !facts.launched => {
                return missing("the process of the host, but the suite did not launch it");
            }
            Need::Ingress if !facts.ingress => {
                return missing("an HTTP ingress, but the host announces no httpPort");
            }
            Need::Tap | Need::Process | Need::Ingress | Need::Registry => {}
        }
    }
    if let Some(role) = check
        .roles
        .iter()
        .find(|role| facts.missing_roles.contains(role))
    {
        return missing(&format!(
            "an image for the role `{role}`, but target.toml has none"
        ));
    }
    match check.feature {
        Some((feature, refused)) if facts.features.get(feature) == Some(&false) => {
            Eligibility::Refusal(refused, feature)
        }
        _ => Eligibility::Run,
    }
}

fn missing(prerequisite: &str) -> Eligibility {
    Eligibility::NotTestable(format!("needs {prerequisite}"))
}

/// Sections whose checks use only commands that exist in gRPC: starts, stops and status.
const GRPC_SECTIONS: [&str; 7] = [
    "start",
    "status",
    "stop",
    "services",
    "images",
    "http",
    "resources",
];

/// Checks of these sections that use heartbeats or malformed requests, which gRPC does not have.
const NATS_ONLY: [&str; 5] = [
    "start/heartbeats-continue",
    "start/error-messages",
    "status/refused-start",
    "http/http-port",
    "resources/config",
];

/// Returns whether a check can run over gRPC.
pub fn runs_over_grpc(check: &Check) -> bool {
    check.host != HostIsolation::Own
        && !check
            .needs
            .iter()
            .any(|need| matches!(need, Need::Tap | Need::Process))
        && GRPC_SECTIONS.contains(&check.section())
        && !NATS_ONLY.contains(&check.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::checks;

    #[test]
    fn checks_over_grpc_exist() {
        let ids: Vec<&str> = checks::all().map(|check| check.id).collect();
        for id in NATS_ONLY {
            assert!(ids.contains(&id), "{id}");
        }
        let over_grpc = checks::all().filter(|check| runs_over_grpc(check)).count();
        assert!(over_grpc > 50, "{over_grpc}");
    }
}
