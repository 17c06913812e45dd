//! One request from its head to its answer: recorded, authorised, decided, sent.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::artifact::digest;
use super::behavior::{Credentials, Demand};
use super::body::{Flow, Hangup};
use super::repositories::Shelf;
use super::request_log::{PendingRequest, Presented};
use super::response::Reply;
use super::{request_log, response};

/// Which of the registry's two listeners an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The registry itself.
    Front,
    /// The place where redirected layers are.
    Elsewhere,
}

/// Answers the requests of one listener.
#[derive(Debug)]
pub(super) struct Answerer {
    pub side: Side,
    pub shelf: Arc<Shelf>,
    pub demand: Demand,
    pub authority: String,
    pub elsewhere: String,
    /// What tokens are made from; never leaves the process.
    pub token_seed: String,
}

impl Answerer {
    pub async fn answer(&self, request: &Request<Incoming>) -> Result<Response<Flow>, Hangup> {
        match self.decide(request) {
            Reply::Silence => std::future::pending().await,
            Reply::Drop => Err(Hangup),
            Reply::Response { after, head, body } => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                let mut response = Response::builder().status(head.status);
                for (name, value) in head.headers {
                    response = response.header(name, value);
                }
                if let Some(length) = body.announced_bytes() {
                    response = response.header("content-length", length);
                }
                response.body(body.flow()).map_err(|_| Hangup)
            }
        }
    }

    fn decide(&self, request: &Request<Incoming>) -> Reply {
        let (repository, asked) = request_log::understand(request.uri());
        let presented = Presented::of(request.headers());
        let entry = request_log::Request {
            at: Instant::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            asked: asked.clone(),
            authorization: presented.shown(),
        };
        if self.side == Side::Elsewhere {
            self.shelf.record_elsewhere(&repository, entry);
            return self.redirected(&repository, &asked);
        }
        self.shelf.record(&repository, entry);
        if asked == PendingRequest::Token {
            return self.token(&repository, &presented);
        }
        if !self.admits(&repository, &presented) {
            return Reply::challenge(self.challenge());
        }
        if asked == PendingRequest::Ping {
            return Reply::json(json!({}));
        }
        let method: &Method = request.method();
        response::reply(
            &self.shelf.look(&repository),
            &repository,
            method,
            &asked,
            &self.elsewhere,
        )
    }

    fn redirected(&self, repository: &str, asked: &PendingRequest) -> Reply {
        let found = match asked {
            PendingRequest::Blob(digest) => self.shelf.look(repository).blob(digest),
            _ => None,
        };
        match found {
            Some(content) => Reply::blob(content),
            None => Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        }
    }

    fn admits(&self, repository: &str, presented: &Presented) -> bool {
        match &self.demand {
            Demand::Nothing => true,
            Demand::Basic(credentials) => holds(presented, credentials),
            Demand::Bearer(_) => match presented {
                Presented::Bearer(token) => *token == self.token_for(repository),
                _ => false,
            },
        }
    }

    fn challenge(&self) -> String {
        match &self.demand {
            Demand::Bearer(_) => {
                format!(
                    "Bearer realm=\"http://{}/token\",service=\"berth\"",
                    self.authority
                )
            }
            _ => "Basic realm=\"berth\"".to_owned(),
        }
    }

    fn token(&self, repository: &str, presented: &Presented) -> Reply {
        let Demand::Bearer(credentials) = &self.demand else {
            return Reply::error(StatusCode::NOT_FOUND, "UNSUPPORTED");
        };
        if !holds(presented, credentials) {
            return Reply::challenge("Basic realm=\"berth\"".to_owned());
        }
        let token = self.token_for(repository);
        Reply::json(json!({"token": token, "access_token": token, "expires_in": 300}))
    }

    fn token_for(&self, repository: &str) -> String {
        let token = digest(format!("{} {repository}", self.token_seed).as_bytes());
        token.trim_start_matches("sha256:").to_owned()
    }
}

fn holds(presented: &Presented, credentials: &Credentials) -> bool {
    matches!(presented, Presented::Basic { user, password }
        if *user == credentials.user && *password == credentials.password)
}
