//! Errors of an image pull.

use std::sync::Arc;
use std::time::Duration;

use super::digest::Digest;
use super::manifest::ManifestError;
use super::reference::ReferenceError;

/// A failed pull. The message names the image; the source, a [`PullCause`], says what failed, at
/// which registry, and how to fix it.
///
/// Neither contains credentials, tokens, or the query of a URL, so both may be logged and sent to
/// the scheduler. Concurrent callers may share one pull, so the cause is in an `Arc`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot pull image `{image}`")]
pub struct PullError {
    image: String,
    #[source]
    cause: Arc<PullCause>,
}

/// Limit of the characters of an image reference in a message.
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

    /// Returns the cause of the failure.
    pub fn cause(&self) -> &PullCause {
        &self.cause
    }

    /// Returns the cause, for callers that name the image themselves.
    pub fn into_cause(self) -> Arc<PullCause> {
        self.cause
    }
}

/// The cause of a failed pull.
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// The image reference is invalid.
    #[error("invalid image reference")]
    Reference(#[source] ReferenceError),
    /// The pull policy is NEVER, and the image is not in the cache.
    #[error("the image is not in this host's cache and the pull policy is NEVER")]
    NotCached,
    /// The deadline of the whole pull passed.
    #[error("registry {registry}: timed out after {} s while {operation}", after.as_secs_f32())]
    Timeout {
        /// Name of the registry.
        registry: String,
        /// The deadline.
        after: Duration,
        /// Operation in progress.
        operation: &'static str,
    },
    /// The limit of pulls in progress is reached.
    #[error("{0} pulls are in progress already; try again later")]
    TooManyPulls(usize),
    /// The TCP connection or the TLS handshake failed.
    #[error(
        "cannot connect to registry {registry} over {scheme}{}",
        insecure_hint(scheme, registry)
    )]
    Connect {
        /// Name of the registry, or of the host that it redirected to.
        registry: String,
        /// `http` or `https`.
        scheme: String,
        /// Network error.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the response was not HTTP.
    #[error("registry {registry}: connection failed while {operation}")]
    Transport {
        /// Name of the registry.
        registry: String,
        /// Operation in progress.
        operation: &'static str,
        /// Network error.
        #[source]
        source: reqwest::Error,
    },
    /// This machine has no CA certificates.
    #[error("cannot use https without CA certificates; install the system's or pass --oci-ca-path")]
    TlsSetup(#[source] Arc<reqwest::Error>),
    /// Status 401.
    #[error(
        "registry {registry} requires authentication{}{}",
        login_hint(*credentials_sent),
        registry_message(detail)
    )]
    Unauthorized {
        /// Name of the registry.
        registry: String,
        /// Whether credentials were sent.
        credentials_sent: bool,
        /// Error message of the registry, without secrets.
        detail: String,
    },
    /// Status 403.
    #[error(
        "registry {registry} denied access; check the permissions of the credentials{}",
        registry_message(detail)
    )]
    Denied {
        /// Name of the registry.
        registry: String,
        /// Error message of the registry, without secrets.
        detail: String,
    },
    /// Status 404.
    #[error(
        "registry {registry} does not have the image; check the name and the tag{}",
        registry_message(detail)
    )]
    NotFound {
        /// Name of the registry.
        registry: String,
        /// Error message of the registry, without secrets.
        detail: String,
    },
    /// Any other status.
    #[error(
        "registry {registry} returned status {status} while {operation}; try again later{}",
        registry_message(detail)
    )]
    Status {
        /// Name of the registry.
        registry: String,
        /// HTTP status.
        status: u16,
        /// Operation in progress.
        operation: &'static str,
        /// Error message of the registry, without secrets.
        detail: String,
    },
    /// The login is impossible or unsafe.
    #[error("cannot log in to registry {registry}: {reason}")]
    Login {
        /// Name of the registry.
        registry: String,
        /// Reason of the failure.
        reason: &'static str,
    },
    /// A redirect that the host does not follow.
    #[error("cannot follow a redirect from registry {registry}: {reason}")]
    Redirect {
        /// Name of the registry.
        registry: String,
        /// Reason of the failure.
        reason: &'static str,
    },
    /// The manifest is invalid or has no layer that the host can run.
    #[error("cannot use the manifest from registry {registry}")]
    Manifest {
        /// Name of the registry.
        registry: String,
        /// Defect of the manifest.
        #[source]
        source: ManifestError,
    },
    /// A manifest, a token or the like exceeds its size limit.
    #[error("registry {registry} sent more than {bytes_max} bytes while {operation}")]
    ResponseTooLarge {
        /// Name of the registry.
        registry: String,
        /// Size limit.
        bytes_max: u64,
        /// Operation in progress.
        operation: &'static str,
    },
    /// The declared size of the layer exceeds the limit.
    #[error("the layer has {bytes} bytes; the limit is {bytes_max} (--image-size-limit-mib)")]
    TooLarge {
        /// Declared size.
        bytes: u64,
        /// Size limit.
        bytes_max: u64,
    },
    /// The registry sent more bytes than the manifest declares.
    #[error("registry {registry} sent more than the {declared} bytes that the manifest declares")]
    Overlong {
        /// Name of the registry.
        registry: String,
        /// Declared size.
        declared: u64,
    },
    /// The registry sent fewer bytes than the manifest declares.
    #[error("registry {registry} sent only {received} of {declared} bytes of the layer")]
    Truncated {
        /// Name of the registry.
        registry: String,
        /// Received size.
        received: u64,
        /// Declared size.
        declared: u64,
        /// Network error, if the connection broke.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The content does not match its digest.
    #[error("the {content} from registry {registry} has digest {actual}, expected {expected}")]
    DigestMismatch {
        /// Name of the registry.
        registry: String,
        /// `manifest` or `layer`.
        content: &'static str,
        /// Requested or declared digest.
        expected: Digest,
        /// Digest of the received content.
        actual: Digest,
    },
    /// The cache directory cannot be written.
    #[error("cannot write to the image cache; check the disk")]
    Cache(#[source] std::io::Error),
    /// The task of the pull ended without a result.
    #[error("the pull was aborted because the host is shutting down")]
    Aborted,
}

fn insecure_hint(scheme: &str, registry: &str) -> String {
    match scheme {
        "https" => format!(
            "; if the registry serves plain HTTP, start this host with \
             --insecure-registry {registry}"
        ),
        _ => String::new(),
    }
}

fn login_hint(credentials_sent: bool) -> &'static str {
    if credentials_sent {
        " and rejected the credentials of imagePullSecret or of the host"
    } else {
        ", but no credentials are configured; set imagePullSecret"
    }
}

fn registry_message(detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!(" (registry message: {detail})"),
    }
}
