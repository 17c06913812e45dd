//! What a request is answered with: pure, from the repository and its behaviour.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::artifact::{Content, Image, MANIFEST};
use super::behavior::Behaviour;
use super::repositories::Repository;
use super::request_log::PendingRequest;

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// With an answer, after a pause.
    Response {
        after: Duration,
        head: Head,
        body: Body,
    },
    /// Never.
    Silence,
    /// With the end of the connection.
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
}

/// How the content of an answer is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Whole(Bytes),
    /// All of it, at that pace.
    Paced {
        bytes: Bytes,
        bytes_per_second: u64,
    },
    /// The length of the whole is announced, this part is sent, and nothing more comes.
    Stuck {
        part: Bytes,
        whole_bytes: u64,
    },
    /// The length of the whole is announced, this part is sent, and the connection closes.
    Cut {
        part: Bytes,
        whole_bytes: u64,
    },
    /// White space, so that no parser gives up early; without a length there is no end.
    Filler {
        bytes: Option<u64>,
    },
}

impl Reply {
    fn at_once(status: StatusCode, headers: Vec<(&'static str, String)>, body: Body) -> Reply {
        Reply::Response {
            after: Duration::ZERO,
            head: Head { status, headers },
            body,
        }
    }

    /// An error in the form of the distribution protocol.
    pub fn error(status: StatusCode, code: &str) -> Reply {
        let message = code.to_ascii_lowercase().replace('_', " ");
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        Reply::at_once(status, json_type(), Body::Whole(body.into()))
    }

    pub fn json(body: serde_json::Value) -> Reply {
        Reply::at_once(
            StatusCode::OK,
            json_type(),
            Body::Whole(body.to_string().into()),
        )
    }

    /// 401 with a challenge.
    pub fn challenge(challenge: String) -> Reply {
        match Reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED") {
            Reply::Response {
                after,
                mut head,
                body,
            } => {
                head.headers.push(("www-authenticate", challenge));
                Reply::Response { after, head, body }
            }
            other => other,
        }
    }

    /// A layer or config, as it is.
    pub fn blob(content: Content) -> Reply {
        Reply::at_once(
            StatusCode::OK,
            blob_headers(&content.digest),
            Body::Whole(content.bytes),
        )
    }
}

/// The answer of `repository` to a request for a manifest or a blob.
///
/// `elsewhere` is the authority that redirected layers are sent to.
pub(super) fn reply(
    repository: &Repository,
    name: &str,
    method: &Method,
    asked: &PendingRequest,
    elsewhere: &str,
) -> Reply {
    match repository.behaviour {
        Behaviour::NotFound => return Reply::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Behaviour::Unauthorised => return Reply::challenge("Basic realm=\"berth\"".to_owned()),
        Behaviour::ServerError => {
            return Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN");
        }
        Behaviour::Gone => return Reply::Drop,
        Behaviour::HangOnHead if *method == Method::HEAD => return Reply::Silence,
        _ => {}
    }
    if *method != Method::GET && *method != Method::HEAD {
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
    }
    match asked {
        PendingRequest::Manifest(reference) => match repository.manifest(reference) {
            Some(content) => manifest(&repository.behaviour, content, reference),
            None => Reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        },
        PendingRequest::Blob(digest) => match repository.blob(digest) {
            Some(content) => blob(&repository.behaviour, content, name, elsewhere),
            None => Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        },
        _ => Reply::error(StatusCode::NOT_FOUND, "UNSUPPORTED"),
    }
}

fn manifest(behaviour: &Behaviour, content: Content, reference: &str) -> Reply {
    let mut after = Duration::ZERO;
    let mut media_type = MANIFEST;
    let mut content = content;
    match behaviour {
        Behaviour::Slow {
            before_manifest, ..
        } => after = *before_manifest,
        Behaviour::HangOnManifest => return Reply::Silence,
        Behaviour::WrongManifestForDigest if reference == content.digest => {
            content.bytes = Image::decoy().manifest.bytes;
        }
        Behaviour::TextInsteadOfJson => {
            let page = "The registry is being looked after. Please come back later.\n";
            let headers = vec![("content-type", "text/plain".to_owned())];
            return Reply::at_once(StatusCode::OK, headers, Body::Whole(page.into()));
        }
        Behaviour::WrongManifestType => media_type = "text/plain",
        Behaviour::EndlessManifest => {
            let headers = manifest_headers(MANIFEST, &content.digest);
            return Reply::at_once(StatusCode::OK, headers, Body::Filler { bytes: None });
        }
        _ => {}
    }
    let head = Head {
        status: StatusCode::OK,
        headers: manifest_headers(media_type, &content.digest),
    };
    Reply::Response {
        after,
        head,
        body: Body::Whole(content.bytes),
    }
}

fn blob(behaviour: &Behaviour, content: Content, name: &str, elsewhere: &str) -> Reply {
    let whole_bytes = content.bytes.len() as u64;
    let half = content.bytes.slice(..content.bytes.len() / 2);
    let headers = blob_headers(&content.digest);
    let body = match behaviour {
        Behaviour::Slow {
            blob_bytes_per_second,
            ..
        } => Body::Paced {
            bytes: content.bytes,
            bytes_per_second: *blob_bytes_per_second,
        },
        Behaviour::HangMidBlob => Body::Stuck {
            part: half,
            whole_bytes,
        },
        Behaviour::TruncateBlob => Body::Cut {
            part: half,
            whole_bytes,
        },
        Behaviour::WrongBlob => Body::Whole(lie(&content.bytes)),
        Behaviour::EndlessBlob => Body::Filler { bytes: None },
        Behaviour::OversizeBlob { declared_bytes } => Body::Filler {
            bytes: Some(*declared_bytes),
        },
        Behaviour::RedirectBlob => {
            let place = format!("http://{elsewhere}/v2/{name}/blobs/{}", content.digest);
            let headers = vec![("location", place)];
            return Reply::at_once(
                StatusCode::TEMPORARY_REDIRECT,
                headers,
                Body::Whole(Bytes::new()),
            );
        }
        _ => Body::Whole(content.bytes),
    };
    Reply::at_once(StatusCode::OK, headers, body)
}

/// The same length and, for WebAssembly, the same valid start; the last byte is another.
fn lie(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x01;
    }
    bytes.into()
}

fn json_type() -> Vec<(&'static str, String)> {
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
