//! The host name of a request, parsed as RFC 9110, RFC 9113 and RFC 3986 define it, without
//! allocation.

use std::net::Ipv6Addr;

use berth_sdk::address::MAX_HOST_NAME_BYTES;
use hyper::header::HOST;
use hyper::{Request, Version};

use crate::fault_injection::Breakage;

/// A host name in lower case, stored inline.
pub struct HostName {
    bytes: [u8; MAX_HOST_NAME_BYTES],
    length: usize,
}

/// Reason why a request has no routable host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeaderError {
    /// No `Host`, or several of them (HOST-HTTP-003).
    Missing,
    /// Not an authority, or two different ones.
    Invalid,
    /// A name that no workload can have.
    Unroutable,
}

impl HostName {
    /// Returns the host name in the authority of the request target if it has one (usually in
    /// HTTP/2), else the one in the `Host` header.
    ///
    /// An invalid `Host` is an error even where the request target takes precedence, because
    /// another server on the way may have read the header.
    pub fn from_request<B>(request: &Request<B>) -> Result<Self, HostHeaderError> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err(HostHeaderError::Missing);
        }
        let header = header
            .map(|value| value.to_str().map_err(|_| HostHeaderError::Invalid))
            .transpose()?;
        let Some(target) = request.uri().authority() else {
            return Self::parse(header.ok_or(HostHeaderError::Missing)?);
        };
        let target = target.as_str();
        match (request.version(), header) {
            (Version::HTTP_2, Some(header)) if !header.eq_ignore_ascii_case(target) => {
                return Err(HostHeaderError::Invalid);
            }
            (Version::HTTP_11, None) => return Err(HostHeaderError::Missing),
            (_, Some(header)) => {
                host_of(header)?;
            }
            _ => {}
        }
        Self::parse(target)
    }

    fn parse(text: &str) -> Result<Self, HostHeaderError> {
        let host = host_of(text)?;
        let name = if Breakage::ComparesPortInHost.is_on() {
            text
        } else {
            host
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut bytes = [0; MAX_HOST_NAME_BYTES];
        bytes
            .get_mut(..name.len())
            .ok_or(HostHeaderError::Unroutable)?
            .copy_from_slice(name.as_bytes());
        if !Breakage::CaseSensitiveHosts.is_on() {
            bytes.make_ascii_lowercase();
        }
        Ok(Self {
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

/// Returns the host of an authority without user information (RFC 3986, section 3.2). A list is
/// invalid, although a name may contain commas: it comes from joined headers.
fn host_of(authority: &str) -> Result<&str, HostHeaderError> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(HostHeaderError::Invalid)?;
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| HostHeaderError::Invalid)?;
            let host = authority.get(..address.len() + 2).unwrap_or_default();
            (host, rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            authority.split_at_checked(end).unwrap_or_default()
        }
    };
    let port_is_valid = match rest.strip_prefix(':') {
        None => rest.is_empty(),
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    };
    if !port_is_valid {
        return Err(HostHeaderError::Invalid);
    }
    if host.starts_with('[') || host.bytes().all(is_name_byte) {
        Ok(host)
    } else if host
        .bytes()
        .all(|byte| is_name_byte(byte) || b"%!$&'()*+;=".contains(&byte))
    {
        Err(HostHeaderError::Unroutable)
    } else {
        Err(HostHeaderError::Invalid)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(builder: hyper::http::request::Builder) -> Result<String, HostHeaderError> {
        let request = builder.body(()).unwrap();
        HostName::from_request(&request).map(|name| name.as_str().to_owned())
    }

    fn host(header: &str) -> Result<String, HostHeaderError> {
        name(Request::builder().uri("/").header(HOST, header))
    }

    #[test]
    fn lower_cases_names_and_removes_the_port() {
        for (header, expected) in [
            ("a.test", "a.test"),
            ("A.Test:8080", "a.test"),
            ("a.test:", "a.test"),
            ("a.test.", "a.test"),
            ("a_b", "a_b"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host(header), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn rejects_invalid_authorities() {
        for header in [
            "one.test@two.test",
            "one.test:80@two.test",
            "user:pw@two.test",
            "one.test, two.test",
            "one.test,two.test",
            "one.test/two.test",
            "one.test#two.test",
            "one.test?two.test",
            "one.test\\two.test",
            "one.test:http",
            "one.test:99999",
            "one.test:+80",
            "one.test:80:80",
            "one.test two.test",
            "one.test\ttwo.test",
            "::1",
            "[::1",
            "[::1]x",
            "[one.test]",
            "[fe80::1%25eth0]",
        ] {
            assert_eq!(host(header), Err(HostHeaderError::Invalid), "{header}");
        }
        assert_eq!(host("one%2Etest"), Err(HostHeaderError::Unroutable));
        assert_eq!(host(&"a".repeat(254)), Err(HostHeaderError::Unroutable));
    }

    #[test]
    fn prefers_the_request_target_over_the_header() {
        let request = |target: &str| Request::builder().uri(target).header(HOST, "a.test");
        assert_eq!(name(request("http://B.test:1/x")), Ok("b.test".to_owned()));
        let with_user = name(request("http://a.test@b.test/"));
        assert_eq!(with_user, Err(HostHeaderError::Invalid));
        let bad_header = Request::builder().uri("http://b.test/").header(HOST, "a@b");
        assert_eq!(name(bad_header), Err(HostHeaderError::Invalid));
        let without_header = name(Request::builder().uri("http://b.test/"));
        assert_eq!(without_header, Err(HostHeaderError::Missing));
    }

    #[test]
    fn compares_the_authority_of_http2_with_the_header() {
        let request = |target: &str| Request::builder().version(Version::HTTP_2).uri(target);
        let target = "http://a.test/";
        assert_eq!(name(request(target)), Ok("a.test".to_owned()));
        let same = request(target).header(HOST, "A.test");
        assert_eq!(name(same), Ok("a.test".to_owned()));
        let other = request(target).header(HOST, "b.test");
        assert_eq!(name(other), Err(HostHeaderError::Invalid));
        assert_eq!(name(request("/")), Err(HostHeaderError::Missing));
        let header_only = request("/").header(HOST, "a.test");
        assert_eq!(name(header_only), Ok("a.test".to_owned()));
    }

    #[test]
    fn rejects_missing_repeated_and_binary_hosts() {
        let missing = Err(HostHeaderError::Missing);
        assert_eq!(name(Request::builder().uri("/")), missing);
        for uri in ["/", "http://a/"] {
            let twice = Request::builder()
                .uri(uri)
                .header(HOST, "a")
                .header(HOST, "a");
            assert_eq!(name(twice), missing);
        }
        let binary = Request::builder().uri("/").header(HOST, &b"\xff"[..]);
        assert_eq!(name(binary), Err(HostHeaderError::Invalid));
    }
}
