//! The image of each role: the target's own image, or else the suite's.

use std::collections::BTreeMap;

use super::guest;
use super::registry::Artifact;
use crate::spec::roles::Role;

/// Provides an image for each role.
#[derive(Clone, Debug, Default)]
pub struct Images {
    own: BTreeMap<Role, Artifact>,
    /// Whether the target cannot use the suite's images, because it does not run components.
    only_own: bool,
}

/// Reasons why a role has no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The target can run only its own images, and has no image for this role.
    #[error("the target provides no image for the role `{0}`")]
    NotProvided(Role),
    /// The suite's image cannot be built, a defect of the suite.
    #[error(transparent)]
    Guest(#[from] guest::GuestError),
}

impl Images {
    /// Uses the target's own images and, unless `only_own` is set, the suite's images for all other
    /// roles.
    pub fn new(own: BTreeMap<Role, Artifact>, only_own: bool) -> Images {
        Images { own, only_own }
    }

    /// Returns the image for a role.
    ///
    /// # Errors
    /// Fails if there is no image.
    pub fn artifact(&self, role: Role) -> Result<Artifact, ImageError> {
        match self.own.get(&role) {
            Some(own) => Ok(own.clone()),
            None if self.only_own => Err(ImageError::NotProvided(role)),
            None => Ok(Artifact::wasm(guest::image(role)?)),
        }
    }
}
