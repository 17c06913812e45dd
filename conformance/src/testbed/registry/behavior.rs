//! The configurable behavior of a repository, and the authentication of a private registry.

use std::fmt;
use std::time::Duration;

/// Behavior of one repository. A variant changes the responses that it describes; all other
/// responses stay correct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RepositoryBehavior {
    /// All responses are correct and immediate.
    #[default]
    Healthy,
    /// Responses are correct but slow.
    Slow {
        /// Delay of each response that concerns a manifest, including HEAD.
        before_manifest: Duration,
        /// Transfer rate of layers and configs.
        blob_bytes_per_second: u64,
    },
    /// Does not respond to HEAD; responds to GET.
    HangOnHead,
    /// Does not respond to HEAD or GET of a manifest.
    HangOnManifest,
    /// Announces a complete layer, sends half of it and stalls.
    HangMidBlob,
    /// Announces a complete layer, sends half of it and closes the connection.
    TruncateBlob,
    /// Serves a layer with the right length whose content has another digest.
    WrongBlob,
    /// Serves a valid manifest with another digest if a manifest is requested by digest.
    WrongManifestForDigest,
    /// Responds with 404.
    NotFound,
    /// Responds with 401, whatever credentials are sent.
    Unauthorized,
    /// Responds with 500.
    ServerError,
    /// Closes the connection without a response.
    CloseConnection,
    /// Serves a page of text instead of the manifest.
    TextInsteadOfJson,
    /// Serves the right manifest with the content type `text/plain`.
    WrongManifestType,
    /// Serves an endless layer without a declared length.
    EndlessBlob,
    /// Serves an endless manifest without a declared length.
    EndlessManifest,
    /// Serves a layer with this declared length, and as many bytes as the client reads.
    OversizeBlob {
        /// Value of Content-Length.
        declared_bytes: u64,
    },
    /// Responds with 307 for every layer, to another authority that serves it and logs the request.
    RedirectBlob,
}

/// The credentials that a private registry accepts. The `Debug` output hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, which the log contains.
    pub user: String,
    /// Password, which no output contains.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The authentication that a registry requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequiredAuth {
    /// No authentication.
    #[default]
    None,
    /// HTTP basic authentication on every request.
    Basic(Credentials),
    /// A bearer token for one repository, which `/token` issues for these credentials.
    Bearer(Credentials),
}
