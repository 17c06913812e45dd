//! Entries of `allowedHosts` and `allowedIpNameLookups`.

use std::net::{IpAddr, Ipv6Addr};

use super::Protocol;

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
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, _)) if !is_scheme(scheme) => return Err("has no valid scheme"),
            Some((scheme, rest)) => (
                Some(scheme.to_ascii_lowercase()),
                rest.strip_suffix('/').unwrap_or(rest),
            ),
        };
        if rest.contains(['/', '?', '#']) {
            return Err("must not include a path");
        }
        if rest.contains('@') {
            return Err("must not include a user");
        }
        let (host, port) = split_port(rest)?;
        Ok(Self {
            scheme,
            name: NamePattern::parse(host)?,
            port,
        })
    }

    /// Returns whether the pattern matches a request to this host and port.
    pub fn allows(&self, scheme: Option<&str>, host: &str, port: u16) -> bool {
        let scheme_allowed = match (&self.scheme, scheme) {
            (Some(allowed), Some(scheme)) => allowed.eq_ignore_ascii_case(scheme),
            _ => true,
        };
        scheme_allowed && self.port.is_none_or(|allowed| allowed == port) && self.name.matches(host)
    }

    /// Returns whether the pattern matches a socket to this host and port. `tcp` and `udp` match
    /// sockets of that protocol. Any other scheme matches TCP sockets to the port of the pattern,
    /// which defaults to 80 for `http` and 443 for `https`; without a port, it matches no socket.
    pub fn allows_socket(&self, protocol: Protocol, host: &str, port: u16) -> bool {
        let scheme_allowed = match self.scheme.as_deref() {
            None => true,
            Some("tcp") => protocol == Protocol::Tcp,
            Some("udp") => protocol == Protocol::Udp,
            Some("http") => protocol == Protocol::Tcp && self.port.unwrap_or(80) == port,
            Some("https") => protocol == Protocol::Tcp && self.port.unwrap_or(443) == port,
            Some(_) => protocol == Protocol::Tcp && self.port.is_some(),
        };
        scheme_allowed && self.allows(None, host, port)
    }
}

/// `*`, a name, an address, or `*.` and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// `*`
    Any,
    /// An address.
    Address(IpAddr),
    /// A name in lower case.
    Name(String),
    /// All names below this one, which is in lower case.
    Below(String),
}

impl NamePattern {
    /// Parses one entry. The error completes the sentence "`entry` …".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(address) = parse_address(text) {
            return Ok(Self::Address(address));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(
                "may contain a wildcard only as `*` or as its first label, `*.example.com`",
            );
        }
        if !crate::hostname::is_hostname(name) {
            return Err("is not a host name");
        }
        let name = name.to_ascii_lowercase();
        Ok(if below {
            Self::Below(name)
        } else {
            Self::Name(name)
        })
    }

    /// Returns whether the pattern matches this name or address. Ignores case and a trailing dot of
    /// names.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Address(address) => parse_address(host) == Some(*address),
            Self::Name(name) => name.eq_ignore_ascii_case(host),
            Self::Below(parent) => host
                .len()
                .checked_sub(parent.len() + 1)
                .filter(|&label_end| label_end > 0)
                .and_then(|label_end| host.split_at_checked(label_end))
                .and_then(|(_, suffix)| suffix.strip_prefix('.'))
                .is_some_and(|suffix| suffix.eq_ignore_ascii_case(parent)),
        }
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Ok((text, None)),
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err("has no valid port"),
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
            ("https://api.example", "http", "api.example", 80, false),
            ("http://*.a.example:81", "http", "x.a.example", 81, true),
            ("http://*.a.example:81", "http", "x.a.example", 80, false),
            ("localhost:9000", "http", "localhost", 9000, true),
            ("[::1]:9000", "http", "[::1]", 9000, true),
            ("::1", "http", "::1", 9000, true),
            ("*", "http", "anything.example", 1, true),
        ] {
            let pattern = HostPattern::parse(entry).unwrap();
            assert_eq!(
                pattern.allows(Some(scheme), host, port),
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
            "a/",
            "a_b",
            "a?x",
            "*:80:90",
        ] {
            assert!(HostPattern::parse(entry).is_err(), "{entry:?} was accepted");
        }
    }

    #[test]
    fn scheme_limits_sockets_to_its_port() {
        let pattern = HostPattern::parse("https://a.example").unwrap();
        assert!(pattern.allows_socket(Protocol::Tcp, "a.example", 443));
        assert!(!pattern.allows_socket(Protocol::Tcp, "a.example", 80));
        assert!(!pattern.allows_socket(Protocol::Udp, "a.example", 443));
    }

    proptest! {
        #[test]
        fn wildcard_matches_names_below_its_parent_only(
            prefix in "[a-z]{1,8}", parent in "[a-z]{1,8}\\.[a-z]{2,3}",
        ) {
            let pattern = NamePattern::parse(&format!("*.{parent}")).unwrap();
            let below = format!("{prefix}.{parent}");
            let beside = format!("{prefix}{parent}");
            prop_assert!(pattern.matches(&below));
            prop_assert!(!pattern.matches(&beside));
            prop_assert!(!pattern.matches(&parent));
        }

        #[test]
        fn parse_never_panics(text in "\\PC{0,40}", host in "\\PC{0,40}") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                pattern.allows(Some("http"), &host, 80);
            }
        }
    }
}
