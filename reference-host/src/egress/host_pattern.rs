//! Entries of `allowedHosts` and `allowedIpNameLookups`.

use std::net::IpAddr;

use berth_sdk::address::{AddressError, Authority, HostAddress, is_host_name, parse_port};

use super::Protocol;
use super::address_class::{AddressClass, classify};
use crate::fault_injection::Breakage;

/// `*`, or `[scheme://][*.]host[:port][/]`. Without a scheme it matches every scheme, without a
/// port every port. `*.example.com` matches every name below `example.com`, but not `example.com`
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Option<String>,
    name: NamePattern,
    port: Option<u16>,
}

impl HostPattern {
    /// Parses one entry. The error completes the sentence "`entry` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, _)) if !is_scheme(scheme) => return Err("has no valid scheme".into()),
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("must not include a path".into());
        }
        let (name, port) = parse_host_and_port(rest)?;
        Ok(Self { scheme, name, port })
    }

    /// Returns whether the pattern matches a request with this scheme to this host and port, as the
    /// guest wrote them.
    pub fn matches(&self, scheme: &str, host: &HostAddress, port: u16) -> bool {
        self.matches_request(scheme, port) && self.name.matches(host)
    }

    /// Returns whether the pattern allows a request with this scheme to this host and port to
    /// connect to `address`: it matches the host and covers the address, or it is the address.
    pub fn allows_address(
        &self,
        scheme: &str,
        host: &HostAddress,
        port: u16,
        address: IpAddr,
    ) -> bool {
        let injected = Breakage::WildcardOpensLoopback.is_on() && self.name.matches(host);
        self.matches_request(scheme, port) && (injected || self.name.allows_address(host, address))
    }

    fn matches_request(&self, scheme: &str, port: u16) -> bool {
        let scheme_matches = self.scheme.as_deref().is_none_or(|it| it == scheme);
        scheme_matches && self.port.is_none_or(|it| it == port)
    }

    /// Returns whether the pattern allows a socket to `address`, to which `host` was resolved, or
    /// which is `host` itself. `tcp` and `udp` match sockets of that protocol. Any other scheme
    /// matches TCP sockets to the port of the pattern, which defaults to 80 for `http` and 443 for
    /// `https`; without a port, it matches no socket.
    pub fn allows_socket(
        &self,
        protocol: Protocol,
        host: &HostAddress,
        port: u16,
        address: IpAddr,
    ) -> bool {
        let scheme_allowed = match self.scheme.as_deref() {
            None => true,
            Some("tcp") => protocol == Protocol::Tcp,
            Some("udp") => protocol == Protocol::Udp,
            Some("http") => protocol == Protocol::Tcp && self.port.unwrap_or(80) == port,
            Some("https") => protocol == Protocol::Tcp && self.port.unwrap_or(443) == port,
            Some(_) => protocol == Protocol::Tcp && self.port.is_some(),
        };
        let injected = Breakage::WildcardOpensLoopbackSockets.is_on() && self.name.matches(host);
        scheme_allowed
            && self.port.is_none_or(|allowed| allowed == port)
            && (injected || self.name.allows_address(host, address))
    }
}

/// Parses `*[:port]` or `[*.]host[:port]`. An IPv6 address without a port needs no brackets.
fn parse_host_and_port(text: &str) -> Result<(NamePattern, Option<u16>), String> {
    if text == "*" {
        return Ok((NamePattern::Any, None));
    }
    if let Some(port) = text.strip_prefix("*:") {
        return Ok((NamePattern::Any, Some(parse_port(port).map_err(reason)?)));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((NamePattern::Exact(HostAddress::from(address)), None));
    }
    let below = text.strip_prefix("*.");
    let rest = below.unwrap_or(text);
    if rest.contains('*') {
        return Err(MISPLACED_WILDCARD.into());
    }
    let Authority { host, port } = rest.parse().map_err(reason)?;
    match (below, host) {
        (None, host) => Ok((NamePattern::Exact(host), port)),
        (Some(_), HostAddress::Name(name)) => Ok((NamePattern::Below(name), port)),
        (Some(_), HostAddress::Ip(_)) => Err(reason(AddressError::Name)),
    }
}

const MISPLACED_WILDCARD: &str =
    "may contain a wildcard only as `*` or as its first label, `*.example.com`";

fn reason(error: AddressError) -> String {
    error.to_string()
}

/// `*`, a name, an address, or `*.` and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// `*`
    Any,
    /// A name or an address.
    Exact(HostAddress),
    /// All names below this one, which is in lower case.
    Below(String),
}

impl NamePattern {
    /// Parses one entry. The error completes the sentence "`entry` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix("*.");
        if below.unwrap_or(text).contains('*') {
            return Err(MISPLACED_WILDCARD.into());
        }
        match below {
            None => HostAddress::parse(text).map(Self::Exact).map_err(reason),
            Some(name) if !is_host_name(name) => Err(reason(AddressError::Name)),
            Some(name) => Ok(Self::Below(name.to_ascii_lowercase())),
        }
    }

    /// Returns whether the pattern matches this name or address.
    pub fn matches(&self, host: &HostAddress) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(_), HostAddress::Ip(_)) => false,
            (Self::Below(parent), HostAddress::Name(name)) => name
                .strip_suffix(parent.as_str())
                .and_then(|label| label.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        }
    }

    /// Returns whether the pattern allows a connection to `address` on behalf of `host`: it matches
    /// the host and covers the class of the address, or it is the address itself.
    fn allows_address(&self, host: &HostAddress, address: IpAddr) -> bool {
        if *self == Self::Exact(HostAddress::from(address)) {
            return true;
        }
        self.matches(host) && self.covers(classify(address))
    }

    /// Returns whether the pattern covers the addresses of a class to which a matching name was
    /// resolved.
    fn covers(&self, class: AddressClass) -> bool {
        match (self, class) {
            (_, AddressClass::Public) => true,
            (Self::Exact(HostAddress::Name(_)), AddressClass::Private) => true,
            (Self::Exact(HostAddress::Name(name)), AddressClass::Loopback) => {
                name == "localhost" && !Breakage::DeniesLocalhost.is_on()
            }
            _ => false,
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::requested_host;
    use super::*;

    #[test]
    fn entries_match_as_documented() {
        for (entry, scheme, host, port, allowed) in [
            ("example.com", "http", "example.com", 80, true),
            ("example.com", "https", "EXAMPLE.com", 8443, true),
            ("example.com", "https", "example.com.", 443, true),
            ("example.com", "http", "a.example.com", 80, false),
            ("*.example.com", "http", "a.example.com", 80, true),
            ("*.example.com", "http", "b.a.example.com", 80, true),
            ("*.example.com", "http", "example.com", 80, false),
            ("*.example.com", "http", "aexample.com", 80, false),
            ("*.example.com", "http", ".example.com", 80, false),
            ("https://api.example", "https", "api.example", 443, true),
            ("https://api.example/", "https", "api.example", 443, true),
            ("api.example:81/", "http", "api.example", 81, true),
            ("https://api.example", "http", "api.example", 80, false),
            ("http://*.a.example:81", "http", "x.a.example", 81, true),
            ("http://*.a.example:81", "http", "x.a.example", 80, false),
            ("localhost:9000", "http", "localhost", 9000, true),
            ("[::1]:9000", "http", "[::1]", 9000, true),
            ("::1", "http", "::1", 9000, true),
            ("*", "http", "anything.example", 1, true),
            ("*:8080", "http", "anything.example", 8080, true),
            ("*:8080", "http", "anything.example", 80, false),
            ("*.a.example:81", "http", "x.a.example", 81, true),
            ("HTTP://a.example", "http", "a.example", 80, true),
            (
                "http://[2001:db8::1]:8080",
                "http",
                "[2001:DB8:0::1]",
                8080,
                true,
            ),
            (
                "http://[2001:db8::1]:8080",
                "http",
                "[2001:db8::1]",
                80,
                false,
            ),
            ("2001:db8::2", "http", "[2001:db8:0::2]", 80, true),
            ("[::1]:5432", "http", "[::ffff:127.0.0.1]", 5432, false),
            ("127.0.0.1", "http", "[::ffff:127.0.0.1]", 80, true),
            ("good.test", "http", "good.test.evil.test", 80, false),
        ] {
            let pattern = HostPattern::parse(entry).unwrap();
            assert_eq!(
                pattern.matches(scheme, &requested_host(host).unwrap(), port),
                allowed,
                "{entry} {host}:{port}"
            );
        }
    }

    #[test]
    fn rejects_malformed_entries() {
        for entry in [
            "",
            "*com",
            "*.",
            "a.*.b",
            "**",
            "https://a/v1",
            "http://",
            "://a",
            "a b",
            "a:0",
            "a:65536",
            "a:b",
            "a:",
            "-a",
            "a-.b",
            "a..b",
            ".a",
            "1http://a",
            "user@a",
            "a/v1",
            "a//",
            "/",
            "a_b",
            "a?x",
            "*:80:90",
            "*:",
            "a:+80",
            "[::1",
            "[::1]x",
            "[fe80::1%eth0]",
            "fe80::1%1",
            "2001:db8::1:8080x",
            "http://2001:db8::1:8080x",
            "[127.0.0.1]",
        ] {
            assert!(HostPattern::parse(entry).is_err(), "{entry:?} was accepted");
        }
    }

    #[test]
    fn scheme_limits_sockets_to_its_port() {
        let pattern = HostPattern::parse("https://a.example").unwrap();
        let (host, address) = (requested_host("a.example").unwrap(), [192, 0, 2, 1].into());
        let allows = |protocol, port| pattern.allows_socket(protocol, &host, port, address);
        assert!(allows(Protocol::Tcp, 443));
        assert!(!allows(Protocol::Tcp, 80));
        assert!(!allows(Protocol::Udp, 443));
    }

    proptest! {
        #[test]
        fn wildcard_matches_names_below_its_parent_only(
            prefix in "[a-z]{1,8}", parent in "[a-z]{1,8}\\.[a-z]{2,3}",
        ) {
            let pattern = NamePattern::parse(&format!("*.{parent}")).unwrap();
            let below = format!("{prefix}.{parent}");
            let beside = format!("{prefix}{parent}");
            let matches = |name: &str| pattern.matches(&requested_host(name).unwrap());
            prop_assert!(matches(&below));
            prop_assert!(!matches(&beside));
            prop_assert!(!matches(&parent));
        }

        #[test]
        fn parse_never_panics(text in "\\PC{0,40}", host in "\\PC{0,40}") {
            if let (Ok(pattern), Some(host)) = (HostPattern::parse(&text), requested_host(&host)) {
                pattern.matches("http", &host, 80);
            }
        }
    }
}
