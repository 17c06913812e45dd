//! What was asked of the registry: one entry a request, without any secret.

use std::time::Instant;

use hyper::{HeaderMap, Method, Uri, header};

/// One request that reached the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When its head had arrived.
    pub at: Instant,
    /// GET, HEAD or whatever else was tried.
    pub method: Method,
    /// The path as it was sent, without the query.
    pub path: String,
    /// What the path means.
    pub asked: PendingRequest,
    /// The credentials that came along, if any.
    pub authorization: Option<Authorization>,
}

/// What a path of the distribution protocol asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingRequest {
    /// `/v2/`: whether this is a registry, and what it demands.
    Ping,
    /// A bearer token for a repository.
    Token,
    /// A manifest, by tag or by digest.
    Manifest(String),
    /// A layer or a config, by digest.
    Blob(String),
    /// Anything else.
    Other,
}

/// The credentials of a request, as far as they may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// `basic`, `bearer` or what else stood there, in lower case.
    pub scheme: String,
    /// The user name of basic credentials.
    pub user: Option<String>,
}

impl Request {
    /// Whether a manifest was asked for, by HEAD or GET.
    pub fn is_manifest(&self) -> bool {
        matches!(self.asked, PendingRequest::Manifest(_))
    }

    /// Whether a layer or config was asked for, by HEAD or GET.
    pub fn is_blob(&self) -> bool {
        matches!(self.asked, PendingRequest::Blob(_))
    }
}

/// The repository that a request concerns (empty for `/v2/`), and what it asks of it.
pub(super) fn understand(uri: &Uri) -> (String, PendingRequest) {
    let path = uri.path();
    if path == "/token" {
        return (
            token_repository(uri.query().unwrap_or_default()),
            PendingRequest::Token,
        );
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        let asked = if path == "/v2" {
            PendingRequest::Ping
        } else {
            PendingRequest::Other
        };
        return (String::new(), asked);
    };
    if rest.is_empty() {
        return (String::new(), PendingRequest::Ping);
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return (
            repository.to_owned(),
            PendingRequest::Manifest(reference.to_owned()),
        );
    }
    if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
        return (
            repository.to_owned(),
            PendingRequest::Blob(digest.to_owned()),
        );
    }
    (rest.to_owned(), PendingRequest::Other)
}

/// The repository in `scope=repository:NAME:pull`, percent-encoded or not.
fn token_repository(query: &str) -> String {
    query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("scope="))
        .map(|scope| scope.replace("%3A", ":").replace("%3a", ":"))
        .map(|scope| scope.replace("%2F", "/").replace("%2f", "/"))
        .find_map(|scope| {
            let name = scope.strip_prefix("repository:")?;
            Some(
                name.rsplit_once(':')
                    .map_or(name, |(name, _)| name)
                    .to_owned(),
            )
        })
        .unwrap_or_default()
}

/// What an `Authorization` header holds.
pub(super) enum Presented {
    Nothing,
    Basic { user: String, password: String },
    Bearer(String),
    Other(String),
}

impl Presented {
    pub fn of(headers: &HeaderMap) -> Presented {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Presented::Nothing;
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        let (scheme, rest) = value.split_once(' ').unwrap_or((&value, ""));
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "basic" => {
                let pair = decode_base64(rest.trim()).unwrap_or_default();
                let pair = String::from_utf8_lossy(&pair).into_owned();
                let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
                Presented::Basic {
                    user: user.to_owned(),
                    password: password.to_owned(),
                }
            }
            "bearer" => Presented::Bearer(rest.trim().to_owned()),
            _ => Presented::Other(scheme),
        }
    }

    /// The part that the log may show.
    pub fn shown(&self) -> Option<Authorization> {
        let (scheme, user) = match self {
            Presented::Nothing => return None,
            Presented::Basic { user, .. } => ("basic", Some(user.clone())),
            Presented::Bearer(_) => ("bearer", None),
            Presented::Other(scheme) => (scheme.as_str(), None),
        };
        Some(Authorization {
            scheme: scheme.to_owned(),
            user,
        })
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(uri: &str) -> (String, PendingRequest) {
        understand(&uri.parse().unwrap())
    }

    #[test]
    fn paths_of_the_distribution_protocol_are_understood() {
        assert_eq!(understood("/v2/"), (String::new(), PendingRequest::Ping));
        let manifest = PendingRequest::Manifest("1.0".to_owned());
        assert_eq!(
            understood("/v2/a/b/manifests/1.0"),
            ("a/b".to_owned(), manifest)
        );
        let blob = PendingRequest::Blob("sha256:00".to_owned());
        assert_eq!(understood("/v2/a/blobs/sha256:00"), ("a".to_owned(), blob));
        assert_eq!(
            understood("/token?service=s&scope=repository%3Aa%2Fb%3Apull"),
            ("a/b".to_owned(), PendingRequest::Token)
        );
        assert_eq!(
            understood("/v2/a/tags/list"),
            ("a/tags/list".to_owned(), PendingRequest::Other)
        );
    }

    #[test]
    fn basic_credentials_are_decoded_and_the_password_is_not_shown() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            "Basic dXNlcjpwYTpzcw==".parse().unwrap(),
        );
        let presented = Presented::of(&headers);
        assert!(matches!(&presented, Presented::Basic { user, password }
            if user == "user" && password == "pa:ss"));
        let shown = presented.shown().unwrap();
        assert_eq!(shown.user.as_deref(), Some("user"));
        assert!(!format!("{shown:?}").contains("pa:ss"));
    }
}
