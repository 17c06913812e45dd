//! The requests of one pull to one repository: login, redirects, and the meaning of each status.

use bytes::Bytes;
use http::{StatusCode, header};
use reqwest::{RequestBuilder, Response, Url};

use super::{Registries, address, check_digest, response, retry};
use crate::image::challenge::{self, Challenge};
use crate::image::credentials::Credentials;
use crate::image::deadline::Deadline;
use crate::image::digest::Digest;
use crate::image::error::PullCause;
use crate::image::manifest::{self, Manifest};
use crate::image::reference::ImageReference;

/// Size limit of a manifest. The distribution specification asks registries to accept up to 4 MiB.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Size limit of a token response. A token has a few kilobytes.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Limit of redirects. Registries redirect once, to their storage; a longer chain is a loop.
const REDIRECTS_MAX: usize = 5;

const MANIFEST: &str = "fetching the manifest";
pub(super) const LAYER: &str = "downloading the layer";
const LOGIN: &str = "logging in";

/// The requests of one pull to one repository.
pub(super) struct Session<'a> {
    pub(super) registries: &'a Registries,
    pub(super) reference: &'a ImageReference,
    /// `SCHEME://HOST/v2/REPOSITORY/`
    pub(super) base: String,
    pub(super) authorization: Authorization,
    pub(super) deadline: &'a Deadline,
}

impl Session<'_> {
    /// Returns the name of the registry, for messages.
    pub(super) fn name(&self) -> String {
        self.reference.registry().to_owned()
    }

    /// Fetches a manifest and checks its digest against the requested or announced one.
    pub(super) async fn manifest(
        &mut self,
        reference: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> Result<(Digest, Manifest), PullCause> {
        let path = format!("manifests/{}", reference.version());
        let response = self
            .get(&path, manifest::ACCEPT, MANIFEST, credentials)
            .await?;
        let announced = response.headers().get("docker-content-digest");
        let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.read(response, MANIFEST_BYTES_MAX, MANIFEST).await?;
        let digest = Digest::of(&body);
        if let Some(expected) = reference.digest().or(announced.as_ref()) {
            check_digest(self.name(), "manifest", expected, digest.clone())?;
        }
        let manifest = manifest::read(&body);
        let manifest = manifest.map_err(|source| PullCause::Manifest {
            registry: self.name(),
            source,
        })?;
        Ok((digest, manifest))
    }

    /// Sends a GET request for a path below [`base`](Self::base). Logs in once if challenged.
    pub(super) async fn get(
        &mut self,
        path: &str,
        accept: &'static str,
        operation: &'static str,
        credentials: Option<&Credentials>,
    ) -> Result<Response, PullCause> {
        let url = self.url(&format!("{}{path}", self.base))?;
        let (mut response, mut from_registry) = self.follow(&url, accept, operation).await?;
        // Ignores a challenge from the target of a redirect, because it is not the registry's.
        if response.status() == StatusCode::UNAUTHORIZED && from_registry {
            let values = response.headers().get_all(header::WWW_AUTHENTICATE);
            let challenge = challenge::choose(values.iter().filter_map(|it| it.to_str().ok()));
            let authorization = match challenge {
                Some(challenge) => self.log_in(challenge, credentials).await?,
                None => Authorization::None,
            };
            if authorization != Authorization::None && authorization != self.authorization {
                self.authorization = authorization;
                (response, from_registry) = self.follow(&url, accept, operation).await?;
            }
        }
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        // Does not show the response of another server: with a redirect, a registry could make this
        // host disclose a page of its internal network.
        let detail = if from_registry {
            response::detail(response, &self.secrets(credentials)).await
        } else {
            String::new()
        };
        let credentials_sent = credentials.is_some() && self.authorization != Authorization::None;
        Err(self.status_error(status, operation, credentials_sent, detail))
    }

    /// Follows redirects from `start`. The flag is true if the registry itself sent the final
    /// response.
    async fn follow(
        &self,
        start: &Url,
        accept: &'static str,
        operation: &'static str,
    ) -> Result<(Response, bool), PullCause> {
        let mut url = start.clone();
        for _ in 0..=REDIRECTS_MAX {
            let to_registry = url.origin() == start.origin();
            let request = self.registries.client(&url)?.get(url.clone());
            let request = request.header(header::ACCEPT, accept);
            let request = if to_registry {
                self.authorization.apply(request)
            } else {
                request
            };
            let response = self.send(request, &url, operation).await?;
            if !response.status().is_redirection() {
                return Ok((response, to_registry));
            }
            url = self.redirect(&url, &response)?;
        }
        Err(self.redirect_error("too many redirects"))
    }

    fn redirect(&self, from: &Url, response: &Response) -> Result<Url, PullCause> {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        address::redirect(from, location).map_err(|reason| self.redirect_error(reason))
    }

    /// Answers a challenge. Requests an anonymous Bearer token if there are no credentials, which
    /// public images on Docker Hub need.
    async fn log_in(
        &self,
        challenge: Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Authorization, PullCause> {
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                return Ok(match credentials {
                    Some(credentials) => Authorization::Basic(credentials.clone()),
                    None => Authorization::None,
                });
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
        };
        let login_error = |reason| PullCause::Login {
            registry: self.name(),
            reason,
        };
        let scope =
            scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
        let plain = self.base.starts_with("http:");
        let url = address::login(&realm, plain, service.as_deref(), &scope).map_err(login_error)?;
        let (response, from_realm) = self.request_token(&url, credentials).await?;
        if response.status() != StatusCode::OK {
            let (status, credentials_sent) = (response.status(), credentials.is_some());
            let detail = if from_realm {
                response::detail(response, &self.secrets(credentials)).await
            } else {
                String::new()
            };
            return Err(self.status_error(status, LOGIN, credentials_sent, detail));
        }
        let body = self.read(response, TOKEN_BYTES_MAX, LOGIN).await?;
        let token =
            response::token(&body).ok_or_else(|| login_error("its response has no token"))?;
        Ok(Authorization::Bearer(token))
    }

    /// Sends the token request and follows redirects. Only the realm itself receives the
    /// credentials. The flag is true if the realm sent the final response.
    async fn request_token(
        &self,
        realm: &Url,
        credentials: Option<&Credentials>,
    ) -> Result<(Response, bool), PullCause> {
        let mut url = realm.clone();
        for _ in 0..=REDIRECTS_MAX {
            let to_realm = url.origin() == realm.origin();
            let request = self.registries.client(&url)?.get(url.clone());
            let request = match credentials.filter(|_| to_realm) {
                Some(credentials) => Authorization::Basic(credentials.clone()).apply(request),
                None => request,
            };
            let response = self.send(request, &url, LOGIN).await?;
            if !response.status().is_redirection() {
                return Ok((response, to_realm));
            }
            url = self.redirect(&url, &response)?;
        }
        Err(self.redirect_error("too many redirects"))
    }

    /// Sends a request without a body, and repeats it while the failure is temporary.
    async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
        operation: &'static str,
    ) -> Result<Response, PullCause> {
        let mut attempt = 1;
        loop {
            // A request without a body can always be cloned.
            let Some(repetition) = request.try_clone() else {
                return self.send_once(request, url, operation).await;
            };
            let response = self.send_once(repetition, url, operation).await?;
            let (status, remaining) = (response.status(), self.deadline.remaining());
            let Some(delay) = retry::delay(attempt, status, response.headers(), remaining) else {
                return Ok(response);
            };
            tracing::debug!(registry = self.name(), %status, ?delay, "repeating a request");
            drop(response);
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn send_once(
        &self,
        request: RequestBuilder,
        url: &Url,
        operation: &'static str,
    ) -> Result<Response, PullCause> {
        request.send().await.map_err(|error| {
            let (is_connect, source) = (error.is_connect(), error.without_url());
            let to_registry = self.base.starts_with(&url.origin().ascii_serialization());
            let registry = match (to_registry, url.host_str()) {
                (false, Some(host)) => host.to_owned(),
                _ => self.name(),
            };
            if is_connect {
                PullCause::Connect {
                    registry,
                    scheme: url.scheme().to_owned(),
                    source,
                }
            } else {
                PullCause::Transport {
                    registry,
                    operation,
                    source,
                }
            }
        })
    }

    async fn read(
        &self,
        response: Response,
        bytes_max: u64,
        operation: &'static str,
    ) -> Result<Bytes, PullCause> {
        let registry = self.name();
        match response::read(response, bytes_max).await {
            Ok(body) => Ok(body),
            Err(response::ReadError::TooLarge) => Err(PullCause::ResponseTooLarge {
                registry,
                bytes_max,
                operation,
            }),
            Err(response::ReadError::Broken(source)) => Err(PullCause::Transport {
                registry,
                operation,
                source,
            }),
        }
    }

    fn status_error(
        &self,
        status: StatusCode,
        operation: &'static str,
        credentials_sent: bool,
        detail: String,
    ) -> PullCause {
        let registry = self.name();
        match status {
            StatusCode::UNAUTHORIZED => PullCause::Unauthorized {
                registry,
                credentials_sent,
                detail,
            },
            StatusCode::FORBIDDEN => PullCause::Denied { registry, detail },
            StatusCode::NOT_FOUND if operation != LOGIN => PullCause::NotFound { registry, detail },
            status => PullCause::Status {
                registry,
                status: status.as_u16(),
                operation,
                detail,
            },
        }
    }

    /// Returns everything secret that a registry might echo.
    fn secrets(&self, credentials: Option<&Credentials>) -> Vec<String> {
        let mut secrets = Vec::new();
        if let Some(credentials) = credentials {
            secrets.extend(response::secret_forms(credentials));
        }
        if let Authorization::Bearer(token) = &self.authorization {
            secrets.push(token.clone());
        }
        secrets
    }

    fn redirect_error(&self, reason: &'static str) -> PullCause {
        PullCause::Redirect {
            registry: self.name(),
            reason,
        }
    }

    fn url(&self, text: &str) -> Result<Url, PullCause> {
        Url::parse(text).map_err(|_| PullCause::Login {
            registry: self.name(),
            reason: "its name is not valid in a URL",
        })
    }
}

/// Content of the `Authorization` header. No `Debug`, because it holds secrets.
#[derive(Clone, PartialEq)]
pub(super) enum Authorization {
    None,
    Basic(Credentials),
    Bearer(String),
}

impl Authorization {
    fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic(it) => request.basic_auth(&it.username, Some(&it.password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}
