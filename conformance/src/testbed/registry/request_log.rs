//! The request log: one entry per request, without secrets.

use std::time::Instant;

use hyper::{HeaderMap, Method, Uri, header};

/// A request to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Time of arrival.
    pub at: Instant,
    /// HTTP method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Endpoint that the path addresses.
    pub endpoint: Endpoint,
    /// Credentials of the request, if any.
    pub authorization: Option<Authorization>,
}

/// An endpoint of the distribution protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`: reports whether the registry exists and requires authentication.
    Ping,
    /// The issuer of bearer tokens.
    Token,
    /// A manifest, by tag or by digest.
    Manifest(String),
    /// A layer or a config, by digest.
    Blob(String),
    /// Anything else.
    Other,
}

/// The credentials of a request without their secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Scheme in lower case, such as `basic` or `bearer`.
    pub scheme: String,
    /// User name of basic credentials.
    pub user: Option<String>,
}

impl LoggedRequest {
    /// Returns whether the request, HEAD or GET, is for a manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.endpoint, Endpoint::Manifest(_))
    }

    /// Returns whether the request, HEAD or GET, is for a layer or config.
    pub fn is_blob(&self) -> bool {
        matches!(self.endpoint, Endpoint::Blob(_))
    }
}

/// Prefix of the paths to which layers are redirected within the registry.
pub(super) const MOVED: &str = "/moved";

/// Returns whether a URI is the target of a redirect within the registry.
pub(super) fn is_moved(uri: &Uri) -> bool {
    uri.path().starts_with(MOVED)
}

/// Returns the repository (empty for `/v2/`) and the endpoint that a URI addresses.
pub(super) fn parse_target(uri: &Uri) -> (String, Endpoint) {
    let path = uri.path().strip_prefix(MOVED).unwrap_or(uri.path());
    if path == "/token" {
        return (
            token_repository(uri.query().unwrap_or_default()),
            Endpoint::Token,
        );
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        let endpoint = if path == "/v2" {
            Endpoint::Ping
        } else {
            Endpoint::Other
        };
        return (String::new(), endpoint);
    };
    if rest.is_empty() {
        return (String::new(), Endpoint::Ping);
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return (
            repository.to_owned(),
            Endpoint::Manifest(reference.to_owned()),
        );
    }
    if let Some((repository, digest)) = rest.rsplit_once("/blobs/") {
        return (repository.to_owned(), Endpoint::Blob(digest.to_owned()));
    }
    (rest.to_owned(), Endpoint::Other)
}

/// Returns NAME from `scope=repository:NAME:pull`, percent-encoded or not.
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

/// The content of an `Authorization` header.
pub(super) enum PresentedCredentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
    Other(String),
}

impl PresentedCredentials {
    pub fn of(headers: &HeaderMap) -> PresentedCredentials {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return PresentedCredentials::None;
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        let (scheme, rest) = value.split_once(' ').unwrap_or((&value, ""));
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "basic" => {
                let pair = decode_base64(rest.trim()).unwrap_or_default();
                let pair = String::from_utf8_lossy(&pair).into_owned();
                let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
                PresentedCredentials::Basic {
                    user: user.to_owned(),
                    password: password.to_owned(),
                }
            }
            "bearer" => PresentedCredentials::Bearer(rest.trim().to_owned()),
            _ => PresentedCredentials::Other(scheme),
        }
    }

    /// Returns the credentials without their secrets.
    pub fn redacted(&self) -> Option<Authorization> {
        let (scheme, user) = match self {
            PresentedCredentials::None => return None,
            PresentedCredentials::Basic { user, .. } => ("basic", Some(user.clone())),
            PresentedCredentials::Bearer(_) => ("bearer", None),
            PresentedCredentials::Other(scheme) => (scheme.as_str(), None),
        };
        Some(Authorization {
            scheme: scheme.to_owned(),
            user,
        })
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut bit_count) = (0_u32, 0_u32);
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
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> (String, Endpoint) {
        parse_target(&uri.parse().unwrap())
    }

    #[test]
    fn parses_paths_of_the_distribution_protocol() {
        assert_eq!(parse("/v2/"), (String::new(), Endpoint::Ping));
        let manifest = Endpoint::Manifest("1.0".to_owned());
        assert_eq!(parse("/v2/a/b/manifests/1.0"), ("a/b".to_owned(), manifest));
        let blob = Endpoint::Blob("sha256:00".to_owned());
        assert_eq!(
            parse("/v2/a/blobs/sha256:00"),
            ("a".to_owned(), blob.clone())
        );
        assert_eq!(parse("/moved/v2/a/blobs/sha256:00"), ("a".to_owned(), blob));
        assert_eq!(
            parse("/token?service=s&scope=repository%3Aa%2Fb%3Apull"),
            ("a/b".to_owned(), Endpoint::Token)
        );
        assert_eq!(
            parse("/v2/a/tags/list"),
            ("a/tags/list".to_owned(), Endpoint::Other)
        );
    }

    #[test]
    fn decodes_basic_credentials_and_redacts_the_password() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            "Basic dXNlcjpwYTpzcw==".parse().unwrap(),
        );
        let presented = PresentedCredentials::of(&headers);
        assert!(
            matches!(&presented, PresentedCredentials::Basic { user, password }
            if user == "user" && password == "pa:ss")
        );
        let redacted = presented.redacted().unwrap();
        assert_eq!(redacted.user.as_deref(), Some("user"));
        assert!(!format!("{redacted:?}").contains("pa:ss"));
    }
}
