//! Host names, IP addresses and authorities (`HOST[:PORT]`) in text, as RFC 1123 and RFC 3986
//! define them. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Limit of a host name, in bytes.
pub const MAX_HOST_NAME_BYTES: usize = 253;

/// Limit of a label of a host name, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Returns whether `text` is a valid host name: labels of letters, digits and inner hyphens,
/// separated by dots.
pub fn is_host_name(text: &str) -> bool {
    text.len() <= MAX_HOST_NAME_BYTES && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL_BYTES
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The host of an authority. Two texts for one host are equal: names ignore case, addresses are
/// compared as addresses, and an IPv4-mapped IPv6 address is the IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddress {
    /// A name in lower case.
    Name(String),
    /// An address; never an IPv4-mapped one.
    Ip(IpAddr),
}

/// `HOST` or `HOST:PORT`, with an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// The host.
    pub host: HostAddress,
    /// The port, from 1 to 65535.
    pub port: Option<u16>,
}

/// Reason why a text is not an authority. The message completes the sentence "`text` …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text includes a user.
    #[error("must not include a user")]
    User,
    /// An IPv6 address has a zone, which has a meaning on one machine only.
    #[error("must not include a zone")]
    Zone,
    /// The text in brackets is not an IPv6 address, or a bracket is missing.
    #[error("has no valid IPv6 address in brackets")]
    Ipv6,
    /// An IPv6 address is not in brackets, so that its end is ambiguous.
    #[error("must have its IPv6 address in brackets")]
    MissingBrackets,
    /// The host is neither a name nor an address.
    #[error("is not a host name")]
    Name,
    /// The port is not a number from 1 to 65535.
    #[error("has no valid port")]
    Port,
}

impl HostAddress {
    /// Parses a name, an IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// # Errors
    ///
    /// Returns the first violation of the syntax.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(address) = text.strip_prefix('[') {
            return match address.strip_suffix(']') {
                Some(address) => bracketed(address),
                None => Err(AddressError::Ipv6),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        match text {
            _ if text.contains('@') => Err(AddressError::User),
            _ if text.contains('%') => Err(AddressError::Zone),
            _ if is_host_name(text) => Ok(Self::Name(text.to_ascii_lowercase())),
            _ => Err(AddressError::Name),
        }
    }

    /// Returns the address, or `None` for a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(address) => Some(*address),
        }
    }
}

fn bracketed(text: &str) -> Result<HostAddress, AddressError> {
    if text.contains('%') {
        return Err(AddressError::Zone);
    }
    let address: Ipv6Addr = text.parse().map_err(|_| AddressError::Ipv6)?;
    Ok(HostAddress::from(IpAddr::V6(address)))
}

impl From<IpAddr> for HostAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl fmt::Display for HostAddress {
    /// Writes the host as in an authority: an IPv6 address has brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl FromStr for Authority {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('@') {
            return Err(AddressError::User);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::MissingBrackets);
        }
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or(AddressError::Ipv6)?;
            let (host, rest) = text.split_at(end + 1);
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(AddressError::Ipv6),
            }
        } else {
            match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => return Err(AddressError::MissingBrackets),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        Ok(Self {
            host: HostAddress::parse(host)?,
            port: port.map(parse_port).transpose()?,
        })
    }
}

/// Parses a port: digits, from 1 to 65535.
///
/// # Errors
///
/// Returns [`AddressError::Port`].
pub fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(AddressError::Port),
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_host_names_only() {
        for name in ["a", "a.b", "A-1.example", "127.0.0.1", &"a".repeat(63)] {
            assert!(is_host_name(name), "{name}");
        }
        let long = ["a", "b", "c", "d"].map(|it| it.repeat(63)).join(".");
        for text in [
            "",
            ".",
            "a.",
            "-a",
            "a-",
            "a_b",
            "a b",
            "a:80",
            "*",
            "ü",
            &"a".repeat(64),
            &long,
        ] {
            assert!(!is_host_name(text), "{text}");
        }
    }

    #[test]
    fn texts_of_one_authority_are_equal() {
        for (text, canonical) in [
            ("Registry.EXAMPLE", "registry.example"),
            ("a:5000", "a:5000"),
            ("10.0.0.5:05000", "10.0.0.5:5000"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"),
            ("[2001:DB8:0::1]:8080", "[2001:db8::1]:8080"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::ffff:7f00:1]", "127.0.0.1"),
        ] {
            let authority: Authority = text.parse().unwrap();
            assert_eq!(authority.to_string(), canonical, "{text}");
        }
        for text in ["fd00::7", "[fd00::7]", "[FD00:0::7]"] {
            let host = HostAddress::parse(text).unwrap();
            assert_eq!(host.ip(), Some("fd00::7".parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn rejects_each_mistake_with_its_reason() {
        for (text, reason) in [
            ("", AddressError::Name),
            ("user@a", AddressError::User),
            ("user:password@[::1]:80", AddressError::User),
            ("[fe80::1%eth0]:5000", AddressError::Zone),
            ("[fe80::1%25eth0]", AddressError::Zone),
            ("a%2eb", AddressError::Zone),
            ("[::1", AddressError::Ipv6),
            ("[::1]x", AddressError::Ipv6),
            ("[127.0.0.1]:80", AddressError::Ipv6),
            ("[]", AddressError::Ipv6),
            ("::1", AddressError::MissingBrackets),
            ("::1:5000", AddressError::MissingBrackets),
            ("2001:db8::1:8080x", AddressError::MissingBrackets),
            ("a b", AddressError::Name),
            ("a/b", AddressError::Name),
            ("a.", AddressError::Name),
            ("a:", AddressError::Port),
            ("a:0", AddressError::Port),
            ("a:+80", AddressError::Port),
            ("a:65536", AddressError::Port),
            ("[::1]:http", AddressError::Port),
        ] {
            assert_eq!(text.parse::<Authority>(), Err(reason), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_parsed_to_the_same_authority(text in "\\PC{0,40}") {
            if let Ok(authority) = text.parse::<Authority>() {
                prop_assert_eq!(authority.to_string().parse(), Ok(authority));
            }
        }

        #[test]
        fn every_address_is_parsed(address: std::net::Ipv6Addr, port in 1..=u16::MAX) {
            let parsed: Authority = format!("[{address}]:{port}").parse().unwrap();
            prop_assert_eq!(parsed.host.ip(), Some(IpAddr::V6(address).to_canonical()));
            prop_assert_eq!(parsed.port, Some(port));
        }
    }
}
