//! How a repository answers, and what a private registry demands.

use std::fmt;
use std::time::Duration;

/// How one repository answers; everything not named is answered truthfully.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers everything truthfully and at once.
    #[default]
    Healthy,
    /// Truthful, but late and slow.
    Slow {
        /// Before each answer that concerns a manifest, HEAD included.
        before_manifest: Duration,
        /// The pace of layers and configs.
        blob_bytes_per_second: u64,
    },
    /// Never answers a HEAD; GET is served.
    HangOnHead,
    /// Never answers a request for a manifest, HEAD or GET.
    HangOnManifest,
    /// Announces a whole layer, sends half of it and falls silent.
    HangMidBlob,
    /// Announces a whole layer, sends half of it and closes the connection.
    TruncateBlob,
    /// Serves a layer of the right length whose content has another digest.
    WrongBlob,
    /// Serves, for a manifest asked by digest, a valid manifest with another digest.
    WrongManifestForDigest,
    /// 404 for everything.
    NotFound,
    /// 401 for everything, whatever credentials are sent.
    Unauthorised,
    /// 500 for everything.
    ServerError,
    /// Closes the connection without an answer.
    Gone,
    /// A page of text where the manifest should be.
    TextInsteadOfJson,
    /// The right manifest under the content type `text/plain`.
    WrongManifestType,
    /// A layer that never ends and has no declared length.
    EndlessBlob,
    /// A manifest that never ends and has no declared length.
    EndlessManifest,
    /// A layer whose declared length is this, with as many bytes as the client will take.
    OversizeBlob {
        /// The Content-Length.
        declared_bytes: u64,
    },
    /// 307 for every layer, to another authority that serves it and records what arrives.
    RedirectBlob,
}

/// The credentials that a private registry accepts. Debug output hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name, which the log shows.
    pub user: String,
    /// The secret, which nothing shows.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What a registry asks of whoever pulls from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: everyone may pull.
    #[default]
    Nothing,
    /// HTTP basic authentication on every request.
    Basic(Credentials),
    /// A bearer token, which `/token` gives for these credentials and for one repository.
    Bearer(Credentials),
}
