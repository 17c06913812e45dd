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
    /// Sends all of a layer but its last bytes.
    CutBlob {
        /// Number of missing bytes.
        missing_bytes: usize,
        /// End of the response.
        end: CutEnd,
    },
    /// Serves another manifest of the repository if a manifest is requested by digest, with the
    /// requested digest in the header `Docker-Content-Digest`.
    WrongManifestForDigest {
        /// Digest of the served manifest.
        served: String,
    },
    /// Responds with 404.
    NotFound,
    /// Responds with 401, whatever credentials are sent.
    Unauthorized,
    /// Responds with 500.
    ServerError,
    /// Responds with 503 and a page of 200 KB with characters of two bytes.
    LongErrorPage,
    /// Closes the connection without a response.
    CloseConnection,
    /// Serves a page of text instead of the manifest.
    TextInsteadOfJson,
    /// Serves the right manifest with the content type `text/plain`.
    WrongManifestType,
    /// Serves the right manifest with a content type that has a parameter.
    ManifestTypeWithParameter,
    /// Serves a layer without a declared length and end: as many bytes as the client reads, up to
    /// [`ENDLESS_BYTES`](super::ENDLESS_BYTES).
    EndlessBlob,
    /// Serves a manifest like the layer of `EndlessBlob`.
    EndlessManifest,
    /// Serves a layer with this declared length, and as many bytes as the client reads.
    OversizeBlob {
        /// Value of Content-Length.
        declared_bytes: u64,
    },
    /// Responds with 307 for every layer, to another authority that serves it and logs the request.
    RedirectBlob,
    /// Like `RedirectBlob`, to another path of the same authority, as a relative URL.
    RedirectBlobToPath,
}

/// End of a response that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEnd {
    /// Announces the complete layer and closes the connection early.
    Announced,
    /// Announces no length and closes the connection before the last chunk.
    Chunked,
    /// Announces the length that it sends.
    Complete,
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
    /// Like `Basic`, with a challenge in lower case.
    BasicInLowerCase(Credentials),
    /// HTTP basic authentication on requests for blobs only.
    BasicForBlobs(Credentials),
    /// A bearer token for one repository, which `/token` issues for these credentials.
    Bearer(Credentials),
}

impl RequiredAuth {
    /// Returns the credentials that the registry accepts.
    pub fn credentials(&self) -> Option<&Credentials> {
        match self {
            RequiredAuth::None => None,
            RequiredAuth::Basic(credentials)
            | RequiredAuth::BasicInLowerCase(credentials)
            | RequiredAuth::BasicForBlobs(credentials)
            | RequiredAuth::Bearer(credentials) => Some(credentials),
        }
    }
}
