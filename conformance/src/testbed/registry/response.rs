//! Plans the response to a request, from the repository and its behavior alone.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::artifact::{Content, MANIFEST};
use super::behavior::{CutEnd, RepositoryBehavior};
use super::repositories::Repository;
use super::request_log::{Endpoint, MOVED};

/// The reaction to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResponsePlan {
    /// Sends a response after a delay.
    Send {
        delay: Duration,
        head: Head,
        body: Body,
    },
    /// Never responds.
    Hang,
    /// Closes the connection.
    CloseConnection,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
}

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Complete(Bytes),
    /// The complete content, sent at this rate.
    Paced {
        bytes: Bytes,
        bytes_per_second: u64,
    },
    /// Announces the total length, sends this part and stalls.
    Stalled {
        part: Bytes,
        total_bytes: u64,
    },
    /// Announces the total length, if any, sends this part and closes the connection.
    Truncated {
        part: Bytes,
        total_bytes: Option<u64>,
    },
    /// Spaces, so that no JSON parser fails early; endless if `bytes` is `None`.
    Filler {
        bytes: Option<u64>,
    },
}

impl ResponsePlan {
    fn immediate(
        status: StatusCode,
        headers: Vec<(&'static str, String)>,
        body: Body,
    ) -> ResponsePlan {
        ResponsePlan::Send {
            delay: Duration::ZERO,
            head: Head { status, headers },
            body,
        }
    }

    /// Creates an error of the distribution protocol.
    pub fn error(status: StatusCode, code: &str) -> ResponsePlan {
        let message = code.to_ascii_lowercase().replace('_', " ");
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        ResponsePlan::immediate(status, json_headers(), Body::Complete(body.into()))
    }

    /// Creates a 503 response whose body exceeds any sensible length of a message.
    fn long_error_page() -> ResponsePlan {
        let headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
        let page = "ü".repeat(100_000);
        let body = Body::Complete(page.into());
        ResponsePlan::immediate(StatusCode::SERVICE_UNAVAILABLE, headers, body)
    }

    pub fn json(body: serde_json::Value) -> ResponsePlan {
        ResponsePlan::immediate(
            StatusCode::OK,
            json_headers(),
            Body::Complete(body.to_string().into()),
        )
    }

    /// Creates a response with status 401 and a challenge.
    pub fn challenge(challenge: String) -> ResponsePlan {
        match ResponsePlan::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED") {
            ResponsePlan::Send {
                delay,
                mut head,
                body,
            } => {
                head.headers.push(("www-authenticate", challenge));
                ResponsePlan::Send { delay, head, body }
            }
            other => other,
        }
    }

    /// Creates a response with an unchanged layer or config.
    pub fn blob(content: Content) -> ResponsePlan {
        ResponsePlan::immediate(
            StatusCode::OK,
            blob_headers(&content.digest),
            Body::Complete(content.bytes),
        )
    }
}

/// Plans the response of `repository` to a request for a manifest or a blob.
///
/// `redirect_authority` is the authority to which redirected layers are sent.
pub(super) fn plan(
    repository: &Repository,
    name: &str,
    method: &Method,
    endpoint: &Endpoint,
    redirect_authority: &str,
) -> ResponsePlan {
    match repository.behavior {
        RepositoryBehavior::NotFound => {
            return ResponsePlan::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
        }
        RepositoryBehavior::Unauthorized => {
            return ResponsePlan::challenge("Basic realm=\"berth\"".to_owned());
        }
        RepositoryBehavior::ServerError => {
            return ResponsePlan::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN");
        }
        RepositoryBehavior::LongErrorPage => return ResponsePlan::long_error_page(),
        RepositoryBehavior::CloseConnection => return ResponsePlan::CloseConnection,
        RepositoryBehavior::HangOnHead if *method == Method::HEAD => return ResponsePlan::Hang,
        _ => {}
    }
    if *method != Method::GET && *method != Method::HEAD {
        return ResponsePlan::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
    }
    match endpoint {
        Endpoint::Manifest(reference) => match repository.manifest(reference) {
            Some(content) => manifest(repository, content, reference),
            None => ResponsePlan::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        },
        Endpoint::Blob(digest) => match repository.blob(digest) {
            Some(content) => blob(&repository.behavior, content, name, redirect_authority),
            None => ResponsePlan::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        },
        _ => ResponsePlan::error(StatusCode::NOT_FOUND, "UNSUPPORTED"),
    }
}

fn manifest(repository: &Repository, content: Content, reference: &str) -> ResponsePlan {
    let mut delay = Duration::ZERO;
    let mut media_type = MANIFEST;
    let mut content = content;
    match &repository.behavior {
        RepositoryBehavior::Slow {
            before_manifest, ..
        } => delay = *before_manifest,
        RepositoryBehavior::HangOnManifest => return ResponsePlan::Hang,
        RepositoryBehavior::WrongManifestForDigest { served } if reference == content.digest => {
            if let Some(other) = repository.manifest(served) {
                content.bytes = other.bytes;
            }
        }
        RepositoryBehavior::TextInsteadOfJson => {
            let page = "The registry is down for maintenance. Please try again later.\n";
            let headers = vec![("content-type", "text/plain".to_owned())];
            return ResponsePlan::immediate(StatusCode::OK, headers, Body::Complete(page.into()));
        }
        RepositoryBehavior::WrongManifestType => media_type = "text/plain",
        RepositoryBehavior::ManifestTypeWithParameter => {
            media_type = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
        }
        RepositoryBehavior::EndlessManifest => {
            let headers = manifest_headers(MANIFEST, &content.digest);
            return ResponsePlan::immediate(StatusCode::OK, headers, Body::Filler { bytes: None });
        }
        _ => {}
    }
    let head = Head {
        status: StatusCode::OK,
        headers: manifest_headers(media_type, &content.digest),
    };
    ResponsePlan::Send {
        delay,
        head,
        body: Body::Complete(content.bytes),
    }
}

fn blob(
    behavior: &RepositoryBehavior,
    content: Content,
    name: &str,
    redirect_authority: &str,
) -> ResponsePlan {
    let total_bytes = content.bytes.len() as u64;
    let half = content.bytes.slice(..content.bytes.len() / 2);
    let headers = blob_headers(&content.digest);
    let body = match behavior {
        RepositoryBehavior::Slow {
            blob_bytes_per_second,
            ..
        } => Body::Paced {
            bytes: content.bytes,
            bytes_per_second: *blob_bytes_per_second,
        },
        RepositoryBehavior::HangMidBlob => Body::Stalled {
            part: half,
            total_bytes,
        },
        RepositoryBehavior::TruncateBlob => Body::Truncated {
            part: half,
            total_bytes: Some(total_bytes),
        },
        RepositoryBehavior::CutBlob { missing_bytes, end } => {
            cut(content.bytes, *missing_bytes, *end)
        }
        RepositoryBehavior::EndlessBlob => Body::Filler { bytes: None },
        RepositoryBehavior::OversizeBlob { declared_bytes } => Body::Filler {
            bytes: Some(*declared_bytes),
        },
        RepositoryBehavior::RedirectBlob => {
            let path = format!("/v2/{name}/blobs/{}", content.digest);
            return redirect(format!("http://{redirect_authority}{path}"));
        }
        RepositoryBehavior::RedirectBlobToPath => {
            return redirect(format!("{MOVED}/v2/{name}/blobs/{}", content.digest));
        }
        _ => Body::Complete(content.bytes),
    };
    ResponsePlan::immediate(StatusCode::OK, headers, body)
}

fn redirect(location: String) -> ResponsePlan {
    ResponsePlan::immediate(
        StatusCode::TEMPORARY_REDIRECT,
        vec![("location", location)],
        Body::Complete(Bytes::new()),
    )
}

fn cut(bytes: Bytes, missing_bytes: usize, end: CutEnd) -> Body {
    let total_bytes = bytes.len() as u64;
    let part = bytes.slice(..bytes.len().saturating_sub(missing_bytes));
    match end {
        CutEnd::Announced => Body::Truncated {
            part,
            total_bytes: Some(total_bytes),
        },
        CutEnd::Chunked => Body::Truncated {
            part,
            total_bytes: None,
        },
        CutEnd::Complete => Body::Complete(part),
    }
}

fn json_headers() -> Vec<(&'static str, String)> {
    vec![("content-type", "application/json".to_owned())]
}

fn manifest_headers(media_type: &str, digest: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", media_type.to_owned()),
        ("docker-content-digest", digest.to_owned()),
    ]
}

fn blob_headers(digest: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/octet-stream".to_owned()),
        ("docker-content-digest", digest.to_owned()),
    ]
}
