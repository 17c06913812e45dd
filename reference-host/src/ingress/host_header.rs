//! The host name of a request, parsed without allocation.

use hyper::header::HOST;
use hyper::{HeaderMap, Request, Uri};

use crate::fault_injection::Breakage;
use berth_sdk::address::MAX_HOST_NAME_BYTES;

/// A host name in lower case, stored inline.
pub struct HostName {
    bytes: [u8; MAX_HOST_NAME_BYTES],
    length: usize,
}

/// Reason why a request has no routable host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeaderError {
    /// No `Host`, several of them, or one that is not text (HOST-HTTP-003).
    Missing,
    /// A name that no workload can have.
    Unroutable,
}

impl HostName {
    /// Returns the host name in the authority of the request target if it has one (always in
    /// HTTP/2), else the one in the `Host` header.
    pub fn from_request<B>(request: &Request<B>) -> Result<Self, HostHeaderError> {
        let text = authority(request.uri(), request.headers()).ok_or(HostHeaderError::Missing)?;
        Self::parse(text).ok_or(HostHeaderError::Unroutable)
    }

    fn parse(text: &str) -> Option<Self> {
        let name = if Breakage::ComparesPortInHost.is_on() {
            text
        } else {
            without_port(text)
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut bytes = [0; MAX_HOST_NAME_BYTES];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        if !Breakage::CaseSensitiveHosts.is_on() {
            bytes.make_ascii_lowercase();
        }
        Some(Self {
            bytes,
            length: name.len(),
        })
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        let name = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }
}

fn authority<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str()).filter(|text| !text.is_empty());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return None;
    }
    first.and_then(|host| host.to_str().ok())
}

fn without_port(text: &str) -> &str {
    if let Some(bracket) = text.rfind(']') {
        return text.get(..=bracket).unwrap_or(text);
    }
    text.split_once(':').map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(builder: hyper::http::request::Builder) -> Result<String, HostHeaderError> {
        let request = builder.body(()).unwrap();
        HostName::from_request(&request).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn lower_cases_names_and_removes_the_port() {
        for (header, expected) in [
            ("a.test", "a.test"),
            ("A.Test:8080", "a.test"),
            ("a.test.", "a.test"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            let request = Request::builder().uri("/").header(HOST, header);
            assert_eq!(name(request), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn prefers_the_request_target_over_the_header() {
        let request = Request::builder()
            .uri("http://B.test:1/x")
            .header(HOST, "a.test");
        assert_eq!(name(request), Ok("b.test".to_owned()));
    }

    #[test]
    fn rejects_missing_repeated_and_invalid_hosts() {
        let missing = Err(HostHeaderError::Missing);
        assert_eq!(name(Request::builder().uri("/")), missing);
        let twice = Request::builder()
            .uri("/")
            .header(HOST, "a")
            .header(HOST, "b");
        assert_eq!(name(twice), missing);
        let binary = Request::builder().uri("/").header(HOST, &b"\xff"[..]);
        assert_eq!(name(binary), missing);
        let long = Request::builder().uri("/").header(HOST, "a".repeat(254));
        assert_eq!(name(long), Err(HostHeaderError::Unroutable));
    }
}
