//! The HTTP side of a pull: manifests, layers and logins, every answer of a bounded size.
//!
//! References, manifests and digests are `oci-client`'s and follow its reading of the distribution
//! specification. Its `Client` is not used, as it reads manifests, tokens and error pages into memory whatever
//! their size, remembers the first credentials of a registry for all later images, and takes a failed login for
//! an anonymous one.
//!
//! Credentials leave the host only after a challenge, and go to the image's own registry or to the login
//! address which that registry names (as Docker Hub needs), never to the target of a redirect elsewhere, and
//! never over plain HTTP when the registry itself is reached over https (HOST-IMG-017).
//!
//! Proxies are those of the process's environment: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.

mod address;
mod answer;
mod session;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

use self::session::{Authorization, LAYER, Session};
use super::credentials::Credentials;
use super::digest::{Digest, Digester};
use super::error::PullCause;
use super::manifest::{Layer, Manifest, ManifestError};
use super::reference::ImageReference;

/// The clients of a host: one that speaks https, and one for the registries that do not.
pub(super) struct Registries {
    plain: reqwest::Client,
    secure: Result<reqwest::Client, Arc<reqwest::Error>>,
    insecure: Insecure,
    image_bytes_max: u64,
}

/// Which registries are reached over plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Insecure {
    All,
    Only(HashSet<String>),
}

/// What a reference stands for, and how the registry wants to be asked for the rest of it.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) manifest: Digest,
    pub(super) layer: Layer,
    authorization: Authorization,
}

/// Why the clients cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot read the CA certificates in {}", path.display())]
    CaRead {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has no PEM certificates that can be used", path.display())]
    CaParse {
        path: PathBuf,
        source: Option<reqwest::Error>,
    },
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

impl Registries {
    /// Makes the clients; `ca_paths` are PEM files of certificates to trust besides the system's.
    pub(super) fn new(
        insecure: Insecure,
        ca_paths: &[PathBuf],
        image_bytes_max: u64,
    ) -> Result<Self, ClientError> {
        // Already installed by whoever links this library too: theirs is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("berth-host/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
        };
        let plain = builder()
            .tls_certs_only([])
            .build()
            .map_err(ClientError::Client)?;
        let secure = builder()
            .https_only(true)
            .tls_certs_merge(certificates(ca_paths)?)
            .build();
        // A machine without CA certificates still serves registries that speak plain HTTP.
        let secure = secure.map_err(|error| {
            tracing::warn!(%error, "no https to registries, there are no CA certificates");
            Arc::new(error)
        });
        Ok(Self {
            plain,
            secure,
            insecure,
            image_bytes_max,
        })
    }

    /// Asks the registry what `reference` stands for.
    pub(super) async fn resolve(
        &self,
        reference: &ImageReference,
        credentials: Option<Credentials>,
    ) -> Result<Resolved, PullCause> {
        let mut session = self.session(reference, Authorization::None);
        let (digest, first) = session.manifest(reference, credentials.as_ref()).await?;
        let (digest, layer) = match first {
            Manifest::Image(layer) => (digest, layer),
            Manifest::Index(chosen) => {
                let chosen = reference.at(&chosen);
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

    /// Downloads the layer into `file`, and verifies its size and digest on the way.
    pub(super) async fn download(
        &self,
        reference: &ImageReference,
        resolved: &Resolved,
        credentials: Option<Credentials>,
        file: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> Result<(), PullCause> {
        use tokio::io::AsyncWriteExt as _;
        let mut session = self.session(reference, resolved.authorization.clone());
        let layer = &resolved.layer;
        let path = format!("blobs/{}", layer.digest);
        let mut response = session
            .get(&path, "*/*", LAYER, credentials.as_ref())
            .await?;
        let (registry, declared) = (session.name(), layer.bytes);
        let (mut digester, mut received) = (Digester::default(), 0_u64);
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
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
            received = received.saturating_add(piece.len() as u64);
            if received > declared {
                return Err(PullCause::Overlong { registry, declared });
            }
            digester.update(&piece);
            file.write_all(&piece).await.map_err(PullCause::Cache)?;
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
        same_digest(registry, "layer", &layer.digest, digester.finish())
    }

    fn session<'a>(
        &'a self,
        reference: &'a ImageReference,
        authorization: Authorization,
    ) -> Session<'a> {
        let authority = reference.authority().to_ascii_lowercase();
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

fn same_digest(
    registry: String,
    what: &'static str,
    expected: &Digest,
    actual: Digest,
) -> Result<(), PullCause> {
    if *expected == actual {
        return Ok(());
    }
    let expected = expected.clone();
    Err(PullCause::DigestMismatch {
        registry,
        what,
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
