//! The HTTP client for registries: manifests, layers and logins, with bounded responses.
//!
//! References, manifests and digests are those of `oci-client` and follow its interpretation of the
//! distribution specification. Its `Client` is not used: it reads manifests, tokens and error pages
//! of any size into memory, reuses the first credentials of a registry for all later images, and
//! treats a failed login as an anonymous one.
//!
//! The host sends credentials only after a challenge, and only to the image's own registry or to
//! the token endpoint that this registry names (Docker Hub needs it). It never sends them to the
//! target of a redirect to another host, and never over plain HTTP if the registry itself is
//! reached over https (HOST-IMG-017).
//!
//! Proxies come from the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.

mod address;
mod response;
mod retry;
mod session;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use self::session::{Authorization, LAYER, Session};
use super::credentials::Credentials;
use super::deadline::Deadline;
use super::digest::{Digest, Digester};
use super::error::PullCause;
use super::manifest::{Layer, Manifest, ManifestError};
use super::reference::ImageReference;

/// Time limit of a connection, divided among the addresses of one family; both families are tried
/// at once. So an address that does not answer leaves time for the others within a pull's deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP clients of a host: one for https, and one for registries that are reached over plain
/// HTTP.
pub(super) struct Registries {
    plain: reqwest::Client,
    secure: Result<reqwest::Client, Arc<reqwest::Error>>,
    insecure: Insecure,
    image_bytes_max: u64,
}

/// The registries that are reached over plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Insecure {
    All,
    Only(HashSet<String>),
}

/// A resolved reference, with the authorization for further requests.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) manifest: Digest,
    pub(super) layer: Layer,
    authorization: Authorization,
}

/// Reason why the HTTP clients cannot be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot read the CA certificates in {}", path.display())]
    CaRead {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("no valid PEM certificate in {}", path.display())]
    CaParse {
        path: PathBuf,
        source: Option<reqwest::Error>,
    },
    #[error("cannot create an HTTP client")]
    Client(#[source] reqwest::Error),
}

impl Registries {
    /// Creates the clients. `ca_paths` are PEM files of CA certificates, trusted besides the
    /// system's.
    pub(super) fn new(
        insecure: Insecure,
        ca_paths: &[PathBuf],
        image_bytes_max: u64,
    ) -> Result<Self, ClientError> {
        // Fails if the embedding program has installed a provider already, which works as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("berth-host/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
        };
        let plain = builder()
            .tls_certs_only([])
            .build()
            .map_err(ClientError::Client)?;
        let secure = builder()
            .https_only(true)
            .tls_certs_merge(certificates(ca_paths)?)
            .build();
        // A machine without CA certificates can still reach registries over plain HTTP.
        let secure = secure.map_err(|error| {
            tracing::warn!(%error, "no CA certificates; cannot reach registries over https");
            Arc::new(error)
        });
        Ok(Self {
            plain,
            secure,
            insecure,
            image_bytes_max,
        })
    }

    /// Resolves `reference` to a manifest and a layer.
    pub(super) async fn resolve(
        &self,
        reference: &ImageReference,
        credentials: Option<Credentials>,
        deadline: &Deadline,
    ) -> Result<Resolved, PullCause> {
        let mut session = self.session(reference, Authorization::None, deadline);
        let (digest, first) = session.manifest(reference, credentials.as_ref()).await?;
        let (digest, layer) = match first {
            Manifest::Image(layer) => (digest, layer),
            Manifest::Index(chosen) => {
                let chosen = reference.with_digest(&chosen);
                match session.manifest(&chosen, credentials.as_ref()).await? {
                    (digest, Manifest::Image(layer)) => (digest, layer),
                    (_, Manifest::Index(_)) => {
                        let source = ManifestError::MediaType("index in an index".into());
                        return Err(PullCause::Manifest {
                            registry: session.name(),
                            source,
                        });
                    }
                }
            }
        };
        let (bytes, bytes_max) = (layer.bytes, self.image_bytes_max);
        if bytes > bytes_max {
            return Err(PullCause::TooLarge { bytes, bytes_max });
        }
        Ok(Resolved {
            manifest: digest,
            layer,
            authorization: session.authorization,
        })
    }

    /// Downloads the layer into `file` and verifies its size and digest.
    pub(super) async fn download(
        &self,
        reference: &ImageReference,
        resolved: &Resolved,
        credentials: Option<Credentials>,
        deadline: &Deadline,
        file: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> Result<(), PullCause> {
        use tokio::io::AsyncWriteExt as _;
        let mut session = self.session(reference, resolved.authorization.clone(), deadline);
        let layer = &resolved.layer;
        let path = format!("blobs/{}", layer.digest);
        let mut response = session
            .get(&path, "*/*", LAYER, credentials.as_ref())
            .await?;
        let (registry, declared) = (session.name(), layer.bytes);
        let (mut digester, mut received) = (Digester::default(), 0_u64);
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(source) => {
                    let source = Some(source.without_url());
                    return Err(PullCause::Truncated {
                        registry,
                        received,
                        declared,
                        source,
                    });
                }
            };
            received = received.saturating_add(chunk.len() as u64);
            if received > declared {
                return Err(PullCause::Overlong { registry, declared });
            }
            digester.update(&chunk);
            file.write_all(&chunk).await.map_err(PullCause::Cache)?;
        }
        file.flush().await.map_err(PullCause::Cache)?;
        if received < declared {
            return Err(PullCause::Truncated {
                registry,
                received,
                declared,
                source: None,
            });
        }
        check_digest(registry, "layer", &layer.digest, digester.finish())
    }

    fn session<'a>(
        &'a self,
        reference: &'a ImageReference,
        authorization: Authorization,
        deadline: &'a Deadline,
    ) -> Session<'a> {
        let authority = reference.authority().to_owned();
        let plain = match &self.insecure {
            Insecure::All => true,
            Insecure::Only(names) => names.contains(&authority),
        };
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{authority}/v2/{}/", reference.repository());
        Session {
            registries: self,
            reference,
            base,
            authorization,
            deadline,
        }
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, PullCause> {
        match url.scheme() {
            "http" => Ok(&self.plain),
            _ => self
                .secure
                .as_ref()
                .map_err(|error| PullCause::TlsSetup(error.clone())),
        }
    }
}

fn check_digest(
    registry: String,
    content: &'static str,
    expected: &Digest,
    actual: Digest,
) -> Result<(), PullCause> {
    if *expected == actual {
        return Ok(());
    }
    let expected = expected.clone();
    Err(PullCause::DigestMismatch {
        registry,
        content,
        expected,
        actual,
    })
}

fn certificates(paths: &[PathBuf]) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let mut all = Vec::new();
    for path in paths {
        let pem = std::fs::read(path).map_err(|source| ClientError::CaRead {
            path: path.clone(),
            source,
        })?;
        let found =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|source| ClientError::CaParse {
                path: path.clone(),
                source: Some(source),
            })?;
        if found.is_empty() {
            return Err(ClientError::CaParse {
                path: path.clone(),
                source: None,
            });
        }
        all.extend(found);
    }
    Ok(all)
}
