//! Decides before a check runs whether this target can be asked at all. Pure.

use std::collections::BTreeMap;

use crate::{
    check::{Body, Check, Host, Need},
    role::Role,
    target::{Images, Target},
};

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
    if check.host == Host::Own && !facts.launched {
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
