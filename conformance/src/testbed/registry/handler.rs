//! Handles one request: records it, authorizes it, plans the response and sends it.

use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::artifact::digest;
use super::behavior::{Credentials, RequiredAuth};
use super::body::{ConnectionClosed, ResponseBody};
use super::repositories::Repositories;
use super::request_log::{Endpoint, PresentedCredentials};
use super::response::{Body, ResponsePlan};
use super::{request_log, response};

/// The two listeners of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerKind {
    /// The registry itself.
    Main,
    /// The target of redirects.
    RedirectTarget,
}

/// Handles the requests of one listener.
#[derive(Debug)]
pub(super) struct Handler {
    pub listener: ListenerKind,
    pub repositories: Arc<Repositories>,
    pub auth: RequiredAuth,
    pub authority: String,
    pub redirect_authority: String,
    /// Secret from which tokens are derived; never leaves the process.
    pub token_seed: String,
}

impl Handler {
    pub async fn handle(
        &self,
        request: &Request<Incoming>,
    ) -> Result<Response<ResponseBody>, ConnectionClosed> {
        match self.plan(request) {
            ResponsePlan::Hang => std::future::pending().await,
            ResponsePlan::CloseConnection => Err(ConnectionClosed),
            ResponsePlan::Send { delay, head, body } => {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let mut response = Response::builder().status(head.status);
                for (name, value) in head.headers {
                    response = response.header(name, value);
                }
                if let Some(length) = body.content_length() {
                    response = response.header("content-length", length);
                }
                response
                    .body(self.counted(request, body))
                    .map_err(|_| ConnectionClosed)
            }
        }
    }

    /// Returns the body, whose bytes the log of the repository counts.
    fn counted(&self, request: &Request<Incoming>, body: Body) -> ResponseBody {
        let repositories = self.repositories.clone();
        let (repository, _) = request_log::parse_target(request.uri());
        let body = body.into_response_body().map_frame(move |frame| {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            repositories.count_sent(&repository, bytes);
            frame
        });
        BodyExt::boxed(body)
    }

    fn plan(&self, request: &Request<Incoming>) -> ResponsePlan {
        let (repository, endpoint) = request_log::parse_target(request.uri());
        let presented = PresentedCredentials::of(request.headers());
        let entry = request_log::LoggedRequest {
            at: Instant::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            endpoint: endpoint.clone(),
            authorization: presented.redacted(),
        };
        if self.listener == ListenerKind::RedirectTarget || request_log::is_moved(request.uri()) {
            self.repositories
                .record_at_redirect_target(&repository, entry);
            return self.redirected_blob(&repository, &endpoint);
        }
        self.repositories.record(&repository, entry);
        if endpoint == Endpoint::Token {
            return self.token(&repository, &presented);
        }
        if !self.is_authorized(&repository, &endpoint, &presented) {
            return ResponsePlan::challenge(self.challenge());
        }
        if endpoint == Endpoint::Ping {
            return ResponsePlan::json(json!({}));
        }
        let method: &Method = request.method();
        response::plan(
            &self.repositories.snapshot(&repository),
            &repository,
            method,
            &endpoint,
            &self.redirect_authority,
        )
    }

    fn redirected_blob(&self, repository: &str, endpoint: &Endpoint) -> ResponsePlan {
        let found = match endpoint {
            Endpoint::Blob(digest) => self.repositories.snapshot(repository).blob(digest),
            _ => None,
        };
        match found {
            Some(content) => ResponsePlan::blob(content),
            None => ResponsePlan::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        }
    }

    fn is_authorized(
        &self,
        repository: &str,
        endpoint: &Endpoint,
        presented: &PresentedCredentials,
    ) -> bool {
        match &self.auth {
            RequiredAuth::None => true,
            RequiredAuth::Basic(credentials) | RequiredAuth::BasicInLowerCase(credentials) => {
                matches_basic(presented, credentials)
            }
            RequiredAuth::BasicForBlobs(credentials) => {
                !matches!(endpoint, Endpoint::Blob(_)) || matches_basic(presented, credentials)
            }
            RequiredAuth::Bearer(_) => match presented {
                PresentedCredentials::Bearer(token) => *token == self.token_for(repository),
                _ => false,
            },
        }
    }

    fn challenge(&self) -> String {
        match &self.auth {
            RequiredAuth::Bearer(_) => {
                format!(
                    "Bearer realm=\"http://{}/token\",service=\"berth\"",
                    self.authority
                )
            }
            RequiredAuth::BasicInLowerCase(_) => "basic realm=\"berth\"".to_owned(),
            _ => "Basic realm=\"berth\"".to_owned(),
        }
    }

    fn token(&self, repository: &str, presented: &PresentedCredentials) -> ResponsePlan {
        let RequiredAuth::Bearer(credentials) = &self.auth else {
            return ResponsePlan::error(StatusCode::NOT_FOUND, "UNSUPPORTED");
        };
        if !matches_basic(presented, credentials) {
            return ResponsePlan::challenge("Basic realm=\"berth\"".to_owned());
        }
        let token = self.token_for(repository);
        ResponsePlan::json(json!({"token": token, "access_token": token, "expires_in": 300}))
    }

    fn token_for(&self, repository: &str) -> String {
        let token = digest(format!("{} {repository}", self.token_seed).as_bytes());
        token.trim_start_matches("sha256:").to_owned()
    }
}

fn matches_basic(presented: &PresentedCredentials, credentials: &Credentials) -> bool {
    matches!(presented, PresentedCredentials::Basic { user, password }
        if *user == credentials.user && *password == credentials.password)
}
