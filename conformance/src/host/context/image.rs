//! Pushes images of roles into repositories that only one check uses.

use super::CheckContext;
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, PushedImage, RepositoryBehavior};

/// Anything that names an image for a workload: a role, a pushed artifact or a reference.
pub trait Image {
    /// Returns the image reference for the workload.
    fn reference(self, cx: &CheckContext) -> String;
}

impl Image for Role {
    fn reference(self, cx: &CheckContext) -> String {
        cx.push(self).reference
    }
}

impl Image for &PushedImage {
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
    /// Pushes the target's image for a role into the check's repository for that role.
    pub fn push(&self, role: Role) -> PushedImage {
        self.push_with(role, RepositoryBehavior::Healthy)
    }

    /// Pushes the target's image for a role into a repository with this behavior.
    ///
    /// Unless the behavior is `Healthy`, the layer is salted, so that no host has it cached. Pushes
    /// of one role with different behaviors need different names: see [`CheckContext::push_as`].
    pub fn push_with(&self, role: Role, behavior: RepositoryBehavior) -> PushedImage {
        self.push_as(role.name(), role, behavior)
    }

    /// Like [`CheckContext::push_with`], into the check's repository `name`.
    pub fn push_as(&self, name: &str, role: Role, behavior: RepositoryBehavior) -> PushedImage {
        let repository = self.repository(name);
        let mut artifact = self.artifact(role);
        if behavior != RepositoryBehavior::Healthy {
            // Hosts cache layers by digest. A host that cached this layer during another check
            // would not request it, so the behavior of the repository would have no effect.
            artifact = artifact.salted(&repository);
        }
        let pushed = self.registry().push(&repository, "v1", artifact);
        self.registry().set_behavior(&repository, behavior);
        pushed
    }

    /// Pushes an image whose layer does not match its digest, into the check's repository `name`.
    pub fn push_false(&self, name: &str, role: Role) -> PushedImage {
        let repository = self.repository(name);
        let artifact = self.artifact(role);
        let artifact = artifact.with_false_layer_digest("sha256", &repository);
        self.registry().push(&repository, "v1", artifact)
    }

    /// Returns the target's image for a role, for checks that push it themselves.
    pub fn artifact(&self, role: Role) -> Artifact {
        if !self.roles.contains(&role) {
            self.evidence()
                .record_check_error(format!("uses the role {role}, which is not in its `roles`"));
        }
        self.fixture()
            .images
            .artifact(role)
            .unwrap_or_else(|error| {
                self.evidence()
                    .record_check_error(format!("no image for the role {role}: {error}"));
                Artifact::wasm(Vec::new())
            })
    }

    /// Returns the full name of the check's repository `name`, for use with `registry()`.
    pub fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.unique_name()).to_lowercase()
    }
}
