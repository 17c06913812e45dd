//! Why an image could not be had.

use std::sync::Arc;
use std::time::Duration;

use super::digest::Digest;
use super::manifest::ManifestError;
use super::reference::ReferenceError;

/// A pull that failed: names the image; its source, a [`PullCause`], says what happened, at which registry,
/// and what to do about it.
///
/// Neither ever holds credentials, tokens, or the query of a URL, so both may be logged and sent to whoever
/// asked for the workload. One pull may have several callers, so the cause is shared.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot get the image \"{image}\"")]
pub struct PullError {
    image: String,
    #[source]
    cause: Arc<PullCause>,
}

/// A reference is quoted up to here; the rest of a longer one is noise.
const IMAGE_CHARS_SHOWN_MAX: usize = 200;

impl PullError {
    pub(super) fn new(image: &str, cause: Arc<PullCause>) -> Self {
        let shown = image
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c });
        Self {
            image: shown.take(IMAGE_CHARS_SHOWN_MAX).collect(),
            cause,
        }
    }

    /// What happened.
    pub fn cause(&self) -> &PullCause {
        &self.cause
    }

    /// What happened, for whoever names the image himself.
    pub fn into_cause(self) -> Arc<PullCause> {
        self.cause
    }
}

/// What went wrong in a pull.
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// The reference is not one.
    #[error("the image reference is not valid")]
    Reference(#[source] ReferenceError),
    /// Policy NEVER, and the image is not there.
    #[error("it is not in this host's cache and the pull policy is NEVER")]
    NotCached,
    /// The deadline over the whole pull passed.
    #[error("registry {registry} did not finish within {} s ({doing})", after.as_secs_f32())]
    Timeout {
        /// Which registry.
        registry: String,
        /// The deadline.
        after: Duration,
        /// What the pull was waiting for.
        doing: &'static str,
    },
    /// More pulls are under way than the host keeps track of.
    #[error("{0} pulls are under way already, try again later")]
    Busy(usize),
    /// No connection, or no TLS session.
    #[error(
        "cannot connect to registry {registry} over {scheme}{}",
        insecure_hint(scheme, registry)
    )]
    Connect {
        /// Which registry, or the host that it redirected to.
        registry: String,
        /// `http` or `https`.
        scheme: String,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("registry {registry} broke off ({doing})")]
    Transport {
        /// Which registry.
        registry: String,
        /// What was under way.
        doing: &'static str,
        /// What the network said.
        #[source]
        source: reqwest::Error,
    },
    /// This machine has no certificate authorities.
    #[error(
        "this host cannot speak https: give it CA certificates (--oci-ca-path, or the system's)"
    )]
    TlsSetup(#[source] Arc<reqwest::Error>),
    /// 401.
    #[error("registry {registry} demands a login{}{}", login_hint(*sent), quoted(detail))]
    Unauthorized {
        /// Which registry.
        registry: String,
        /// Whether credentials were sent.
        sent: bool,
        /// The registry's words, cleaned.
        detail: String,
    },
    /// 403.
    #[error(
        "registry {registry} denies access, check what the credentials may do{}",
        quoted(detail)
    )]
    Denied {
        /// Which registry.
        registry: String,
        /// The registry's words, cleaned.
        detail: String,
    },
    /// 404.
    #[error(
        "registry {registry} does not have it, check the name and the tag{}",
        quoted(detail)
    )]
    NotFound {
        /// Which registry.
        registry: String,
        /// The registry's words, cleaned.
        detail: String,
    },
    /// Any other status.
    #[error(
        "registry {registry} answered {status} ({doing}), try again later{}",
        quoted(detail)
    )]
    Status {
        /// Which registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// What was asked for.
        doing: &'static str,
        /// The registry's words, cleaned.
        detail: String,
    },
    /// The login itself cannot be done, or not safely.
    #[error("cannot log in to registry {registry}: {reason}")]
    Login {
        /// Which registry.
        registry: String,
        /// Why.
        reason: &'static str,
    },
    /// A redirect that is not followed.
    #[error("registry {registry} sends the host elsewhere: {reason}")]
    Redirect {
        /// Which registry.
        registry: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// A manifest that the host cannot use.
    #[error("registry {registry} answered with a manifest that cannot be used")]
    Manifest {
        /// Which registry.
        registry: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A manifest, a token or the like that has no end.
    #[error("registry {registry} sent more than {bytes_max} bytes ({doing})")]
    AnswerTooLarge {
        /// Which registry.
        registry: String,
        /// The limit.
        bytes_max: u64,
        /// What was asked for.
        doing: &'static str,
    },
    /// Declared larger than the host accepts.
    #[error("its layer has {bytes} bytes, this host takes {bytes_max} (--image-size-limit-mib)")]
    TooLarge {
        /// The declared size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// More came than the manifest declares.
    #[error("registry {registry} sends more than the {declared} bytes that the manifest declares")]
    Overlong {
        /// Which registry.
        registry: String,
        /// The declared size.
        declared: u64,
    },
    /// Less came than the manifest declares.
    #[error("the layer arrived truncated from registry {registry}: {received} of {declared} bytes")]
    Truncated {
        /// Which registry.
        registry: String,
        /// What came.
        received: u64,
        /// The declared size.
        declared: u64,
        /// What the network said, when the connection broke.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Content that is not what its digest says.
    #[error("the {what} from registry {registry} has the digest {actual}, expected {expected}")]
    DigestMismatch {
        /// Which registry.
        registry: String,
        /// Manifest or layer.
        what: &'static str,
        /// The digest that was asked for or declared.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The cache folder failed.
    #[error("this host cannot write to its image cache, check the disk")]
    Cache(#[source] std::io::Error),
    /// The pull's own task ended without an outcome.
    #[error("the pull was aborted, the host is shutting down")]
    Aborted,
}

fn insecure_hint(scheme: &str, registry: &str) -> String {
    match scheme {
        "https" => format!(
            "; if it speaks plain HTTP, start this host with --insecure-registry {registry}"
        ),
        _ => String::new(),
    }
}

fn login_hint(sent: bool) -> &'static str {
    match sent {
        true => " and does not accept the credentials of imagePullSecret or the host",
        false => " and there are no credentials for it, set imagePullSecret",
    }
}

fn quoted(detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!(" (it says: {detail})"),
    }
}
