//! The image that plays each role: the target's own, else the suite's.

use std::collections::BTreeMap;

use super::guest;
use super::registry::Artifact;
use crate::spec::roles::Role;

/// Which bytes play which role.
#[derive(Clone, Debug, Default)]
pub struct Images {
    own: BTreeMap<Role, Artifact>,
    /// The target runs something else than components, so the suite's own images are of no use.
    only_own: bool,
}

/// There is nothing to play the role.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The target brings its own images, and none for this role.
    #[error("the target brings no image for the role `{0}`")]
    NotBrought(Role),
    /// The suite's own image is broken: a fault of the suite.
    #[error(transparent)]
    Broken(#[from] guest::GuestError),
}

impl Images {
    /// The target's own images; with `only_own` the suite's are never used.
    pub fn new(own: BTreeMap<Role, Artifact>, only_own: bool) -> Images {
        Images { own, only_own }
    }

    /// The image for a role.
    ///
    /// # Errors
    /// There is none.
    pub fn artifact(&self, role: Role) -> Result<Artifact, ImageError> {
        match self.own.get(&role) {
            Some(own) => Ok(own.clone()),
            None if self.only_own => Err(ImageError::NotBrought(role)),
            None => Ok(Artifact::wasm(guest::image(role)?)),
        }
    }
}
