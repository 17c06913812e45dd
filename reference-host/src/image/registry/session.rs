//! The requests of one pull to one repository: login, redirects, and what each status means.

use bytes::Bytes;
use http::{StatusCode, header};
use reqwest::{RequestBuilder, Response, Url};

use super::{Registries, address, answer, same_digest};
use crate::image::challenge::{self, Challenge};
use crate::image::credentials::Credentials;
use crate::image::digest::Digest;
use crate::image::error::PullCause;
use crate::image::manifest::{self, Manifest};
use crate::image::reference::ImageReference;

/// The distribution specification asks registries to accept manifests up to 4 MiB; so larger ones do not occur.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// A token is a few kilobytes.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Registries redirect once, to their store; a longer chain is a loop.
const REDIRECTS_MAX: usize = 5;

const MANIFEST: &str = "asking for the manifest";
pub(super) const LAYER: &str = "downloading the layer";
const LOGIN: &str = "logging in";

/// The requests of one pull to one repository.
pub(super) struct Session<'a> {
    pub(super) registries: &'a Registries,
    pub(super) reference: &'a ImageReference,
    /// `SCHEME://HOST/v2/REPOSITORY/`
    pub(super) base: String,
    pub(super) authorization: Authorization,
}

impl Session<'_> {
    /// The registry, for messages.
    pub(super) fn name(&self) -> String {
        self.reference.registry().to_owned()
    }

    /// A manifest and its digest, checked against the digest that was asked for or announced.
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
            same_digest(self.name(), "manifest", expected, digest.clone())?;
        }
        let read = manifest::read(&body);
        let read = read.map_err(|source| PullCause::Manifest {
            registry: self.name(),
            source,
        })?;
        Ok((digest, read))
    }

    /// One GET below the repository; logs in once when challenged.
    pub(super) async fn get(
        &mut self,
        path: &str,
        accept: &'static str,
        doing: &'static str,
        credentials: Option<&Credentials>,
    ) -> Result<Response, PullCause> {
        let url = self.url(&format!("{}{path}", self.base))?;
        let (mut response, mut own) = self.follow(&url, accept, doing).await?;
        // A challenge by the target of a redirect is not the registry's, and gets nothing.
        if response.status() == StatusCode::UNAUTHORIZED && own {
            let values = response.headers().get_all(header::WWW_AUTHENTICATE);
            let challenge = challenge::choose(values.iter().filter_map(|it| it.to_str().ok()));
            let authorization = match challenge {
                Some(challenge) => self.log_in(challenge, credentials).await?,
                None => Authorization::None,
            };
            if authorization != Authorization::None && authorization != self.authorization {
                self.authorization = authorization;
                (response, own) = self.follow(&url, accept, doing).await?;
            }
        }
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        // What another host says is not shown: a redirect could make this host read out a neighbour.
        let detail = match own {
            true => answer::detail(response, &self.secrets(credentials)).await,
            false => String::new(),
        };
        let sent = credentials.is_some() && self.authorization != Authorization::None;
        Err(self.refusal(status, doing, sent, detail))
    }

    /// Follows redirects from `start`; true when the last answer came from the registry itself.
    async fn follow(
        &self,
        start: &Url,
        accept: &'static str,
        doing: &'static str,
    ) -> Result<(Response, bool), PullCause> {
        let mut url = start.clone();
        for _ in 0..=REDIRECTS_MAX {
            let own = url.origin() == start.origin();
            let request = self.registries.client(&url)?.get(url.clone());
            let request = request.header(header::ACCEPT, accept);
            let request = if own {
                self.authorization.apply(request)
            } else {
                request
            };
            let response = self.send(request, &url, doing).await?;
            if !response.status().is_redirection() {
                return Ok((response, own));
            }
            url = self.redirect(&url, &response)?;
        }
        Err(self.redirect_refused("it redirects in circles"))
    }

    fn redirect(&self, from: &Url, response: &Response) -> Result<Url, PullCause> {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        address::redirect(from, location).map_err(|reason| self.redirect_refused(reason))
    }

    /// Meets a challenge. Without credentials a Bearer token is asked for anonymously, as public images on
    /// Docker Hub need.
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
        let refused = |reason| PullCause::Login {
            registry: self.name(),
            reason,
        };
        let scope =
            scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
        let plain = self.base.starts_with("http:");
        let url = address::login(&realm, plain, service.as_deref(), &scope).map_err(refused)?;
        let request = self.registries.client(&url)?.get(url.clone());
        let request = match credentials {
            Some(credentials) => Authorization::Basic(credentials.clone()).apply(request),
            None => request,
        };
        let response = self.send(request, &url, LOGIN).await?;
        if response.status() != StatusCode::OK {
            let (status, sent) = (response.status(), credentials.is_some());
            let detail = answer::detail(response, &self.secrets(credentials)).await;
            return Err(self.refusal(status, LOGIN, sent, detail));
        }
        let body = self.read(response, TOKEN_BYTES_MAX, LOGIN).await?;
        let token = answer::token(&body).ok_or_else(|| refused("its answer has no token"))?;
        Ok(Authorization::Bearer(token))
    }

    async fn send(
        &self,
        request: RequestBuilder,
        url: &Url,
        doing: &'static str,
    ) -> Result<Response, PullCause> {
        request.send().await.map_err(|error| {
            let (connect, source) = (error.is_connect(), error.without_url());
            let own = self.base.starts_with(&url.origin().ascii_serialization());
            let registry = match (own, url.host_str()) {
                (false, Some(host)) => host.to_owned(),
                _ => self.name(),
            };
            match connect {
                true => PullCause::Connect {
                    registry,
                    scheme: url.scheme().to_owned(),
                    source,
                },
                false => PullCause::Transport {
                    registry,
                    doing,
                    source,
                },
            }
        })
    }

    async fn read(
        &self,
        response: Response,
        bytes_max: u64,
        doing: &'static str,
    ) -> Result<Bytes, PullCause> {
        let registry = self.name();
        match answer::read(response, bytes_max).await {
            Ok(body) => Ok(body),
            Err(answer::ReadError::TooLarge) => Err(PullCause::AnswerTooLarge {
                registry,
                bytes_max,
                doing,
            }),
            Err(answer::ReadError::Broken(source)) => Err(PullCause::Transport {
                registry,
                doing,
                source,
            }),
        }
    }

    fn refusal(
        &self,
        status: StatusCode,
        doing: &'static str,
        sent: bool,
        detail: String,
    ) -> PullCause {
        let registry = self.name();
        match status {
            StatusCode::UNAUTHORIZED => PullCause::Unauthorized {
                registry,
                sent,
                detail,
            },
            StatusCode::FORBIDDEN => PullCause::Denied { registry, detail },
            StatusCode::NOT_FOUND if doing != LOGIN => PullCause::NotFound { registry, detail },
            status => PullCause::Status {
                registry,
                status: status.as_u16(),
                doing,
                detail,
            },
        }
    }

    /// Everything that a registry might echo and that must not be shown.
    fn secrets(&self, credentials: Option<&Credentials>) -> Vec<String> {
        let mut secrets = Vec::new();
        if let Some(credentials) = credentials {
            secrets.extend(answer::spellings(credentials));
        }
        if let Authorization::Bearer(token) = &self.authorization {
            secrets.push(token.clone());
        }
        secrets
    }

    fn redirect_refused(&self, reason: &'static str) -> PullCause {
        PullCause::Redirect {
            registry: self.name(),
            reason,
        }
    }

    fn url(&self, text: &str) -> Result<Url, PullCause> {
        Url::parse(text).map_err(|_| PullCause::Login {
            registry: self.name(),
            reason: "its name makes no URL",
        })
    }
}

/// What goes into the `Authorization` header. No `Debug`: it holds secrets.
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
