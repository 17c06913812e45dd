//! Pushing the image of a role into a repository of the check's own.

use super::CheckContext;
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, Behaviour, Pushed};

/// What a workload can name as an image.
pub trait Image {
    /// The reference to write into the workload.
    fn reference(self, cx: &CheckContext) -> String;
}

impl Image for Role {
    fn reference(self, cx: &CheckContext) -> String {
        cx.push(self).reference
    }
}

impl Image for &Pushed {
    fn reference(self, _: &CheckContext) -> String {
        self.reference.clone()
    }
}

impl Image for &str {
    fn reference(self, _: &CheckContext) -> String {
        self.to_owned()
    }
}

impl Image for String {
    fn reference(self, _: &CheckContext) -> String {
        self
    }
}

impl CheckContext {
    /// Pushes the target's image for a role. Each check has a repository of its own for each role.
    pub fn push(&self, role: Role) -> Pushed {
        self.push_with(role, Behaviour::Healthy)
    }

    /// Pushes the target's image for a role into a repository that behaves so.
    ///
    /// Anything but `Healthy` gets content that no host has yet. Pushes of one role with different
    /// behaviours need different names: see [`CheckContext::push_as`].
    pub fn push_with(&self, role: Role, behaviour: Behaviour) -> Pushed {
        self.push_as(role.name(), role, behaviour)
    }

    /// [`CheckContext::push_with`] into the check's repository of that name.
    pub fn push_as(&self, name: &str, role: Role, behaviour: Behaviour) -> Pushed {
        let repository = self.repository(name);
        let mut artifact = self.artifact(role);
        if behaviour != Behaviour::Healthy {
            // Layers are the same wherever they lie: one that another check's start has brought to
            // the host would not be asked for, and how the repository behaves would not matter.
            artifact = artifact.salted(&repository);
        }
        let pushed = self.registry().push(&repository, "v1", artifact);
        self.registry().behave(&repository, behaviour);
        pushed
    }

    /// The target's image for a role, for checks that push it themselves.
    pub fn artifact(&self, role: Role) -> Artifact {
        if !self.roles.contains(&role) {
            self.evidence().fault(format!(
                "uses the role {role}, which its `roles` does not name"
            ));
        }
        self.fixture()
            .images
            .artifact(role)
            .unwrap_or_else(|trouble| {
                self.evidence()
                    .fault(format!("there is no image for the role {role}: {trouble}"));
                Artifact::wasm(Vec::new())
            })
    }

    /// The check's repository of that name, for `registry()`.
    pub fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.tag()).to_lowercase()
    }
}
