//! Images: the Wasm artifacts that workloads name, pulled from OCI registries and cached on disk.
//!
//! [`Store`] is the interface to the rest of the host. Decisions are pure functions (references,
//! digests, manifests, challenges, Docker config files). Two thin modules do the I/O: `registry`
//! speaks HTTP to registries, `cache` reads and writes files.

mod cache;
mod challenge;
mod credentials;
mod deadline;
mod digest;
mod docker_config;
mod error;
mod manifest;
mod options;
mod reference;
mod registry;
mod single_flight;
mod store;

pub use self::credentials::Credentials;
pub use self::digest::{Digest, DigestError};
pub use self::error::{PullCause, PullError};
pub use self::manifest::ManifestError;
pub use self::options::{
    DEFAULT_CONCURRENT_PULLS_MAX, DEFAULT_IMAGE_BYTES_MAX, DEFAULT_IMAGE_CACHE_BYTES_MAX,
    DEFAULT_PULL_TIMEOUT, PULL_TIMEOUT_CONFORMANT_MAX, PULL_TIMEOUT_MAX, StoreOptions,
};
pub use self::reference::{ImageReference, ReferenceError};
pub use self::store::{Artifact, PullPolicy, PullRequest, Store, StoreError, TEMPORARY_PREFIX};
