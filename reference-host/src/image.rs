//! Images: the Wasm artifacts that workloads name, pulled from OCI registries and kept on disk.
//!
//! [`Store`] is what the rest of the host uses. Below it, everything that decides is pure (references,
//! digests, manifests, challenges, credentials files), and two shells do the work: one talks HTTP to
//! registries, the other is the cache on disk.

mod cache;
mod challenge;
mod credentials;
mod digest;
mod docker_config;
mod error;
mod flight;
mod manifest;
mod options;
mod reference;
mod registry;
mod store;
mod temporary;

pub use self::credentials::Credentials;
pub use self::digest::{Digest, DigestError};
pub use self::error::{PullCause, PullError};
pub use self::manifest::ManifestError;
pub use self::options::StoreOptions;
pub use self::reference::{ImageReference, ReferenceError};
pub use self::store::{Artifact, PullPolicy, PullRequest, Store, StoreError};
