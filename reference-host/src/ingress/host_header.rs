//! The host name of a request, found without allocating.

use hyper::header::HOST;
use hyper::{HeaderMap, Request, Uri};

use crate::breakage::Breakage;
use crate::hostname::MAX_HOSTNAME_BYTES;

/// A host name in lower case, on the stack.
pub struct HostName {
    bytes: [u8; MAX_HOSTNAME_BYTES],
    length: usize,
}

/// Why a request has no usable host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// No `Host`, several of them, or one that is no text (HOST-HTTP-003).
    Missing,
    /// A name that no workload can have.
    Unroutable,
}

impl HostName {
    /// Reads the name: of the target, when the request has one with an authority (as HTTP/2 always
    /// does), or else of the `Host` header.
    pub fn of<B>(request: &Request<B>) -> Result<Self, NoHost> {
        let text = authority(request.uri(), request.headers()).ok_or(NoHost::Missing)?;
        Self::read(text).ok_or(NoHost::Unroutable)
    }

    fn read(text: &str) -> Option<Self> {
        let name = if Breakage::PortInHostMatters.is_on() {
            text
        } else {
            without_port(text)
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut bytes = [0; MAX_HOSTNAME_BYTES];
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

    /// The name.
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

    fn name(builder: hyper::http::request::Builder) -> Result<String, NoHost> {
        HostName::of(&builder.body(()).unwrap()).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn names_are_read_in_lower_case_without_the_port() {
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
    fn the_target_of_the_request_wins() {
        let request = Request::builder()
            .uri("http://B.test:1/x")
            .header(HOST, "a.test");
        assert_eq!(name(request), Ok("b.test".to_owned()));
    }

    #[test]
    fn no_host_and_two_hosts_are_missing() {
        assert_eq!(name(Request::builder().uri("/")), Err(NoHost::Missing));
        let twice = Request::builder()
            .uri("/")
            .header(HOST, "a")
            .header(HOST, "b");
        assert_eq!(name(twice), Err(NoHost::Missing));
        let binary = Request::builder().uri("/").header(HOST, &b"\xff"[..]);
        assert_eq!(name(binary), Err(NoHost::Missing));
        let long = Request::builder().uri("/").header(HOST, "a".repeat(254));
        assert_eq!(name(long), Err(NoHost::Unroutable));
    }
}
