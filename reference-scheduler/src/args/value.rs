//! Parsers for the values of flags; their errors name the accepted form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

pub(super) use berth_sdk::cli::value::{boolean, duration_in};

/// Address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// The endpoint is turned off.
    Off,
    /// The endpoint listens on this address.
    At(SocketAddr),
}

/// Parses an address in the form of Go: `:8081`, `127.0.0.1:8081`, or `0` for none.
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    if text == "0" {
        return Ok(Bind::Off);
    }
    let form = "expected [IP]:PORT, such as :8081, or 0 for none";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    let port: u16 = port.parse().map_err(|_| form)?;
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| form)?,
    };
    Ok(Bind::At(SocketAddr::new(ip, port)))
}

/// Value of `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreName {
    /// `kube`
    Kube,
    /// `dir:PATH`
    Dir(PathBuf),
}

/// Parses a store: `kube` or `dir:PATH`.
pub(super) fn store(text: &str) -> Result<StoreName, String> {
    match text.split_once(':') {
        None if text == "kube" => Ok(StoreName::Kube),
        Some(("dir", path)) if !path.is_empty() => Ok(StoreName::Dir(PathBuf::from(path))),
        _ => Err("expected kube, or dir:PATH with the directory of the manifests".to_owned()),
    }
}

/// Parses a namespace, a DNS-1123 label.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_valid = !text.is_empty() && text.len() <= 63 && text.chars().all(inner);
    if is_valid && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a namespace has at most 63 lowercase letters, digits and \"-\"".to_owned())
}

/// Parses a comma-separated list of namespaces. Empty entries are ignored, as in wasmCloud's
/// operator.
pub(super) fn namespaces(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    names.map(namespace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses() {
        let at = |text: &str| Ok(Bind::At(text.parse().unwrap()));
        assert_eq!(bind(":8081"), at("[::]:8081"));
        assert_eq!(bind("127.0.0.1:0"), at("127.0.0.1:0"));
        assert_eq!(bind("[::1]:1"), at("[::1]:1"));
        assert_eq!(bind("localhost:1"), at("127.0.0.1:1"));
        assert_eq!(bind("0"), Ok(Bind::Off));
        for text in ["", "8081", ":x", "a:1", ":70000"] {
            assert!(bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parses_stores() {
        assert_eq!(store("kube"), Ok(StoreName::Kube));
        assert_eq!(store("dir:a:b"), Ok(StoreName::Dir("a:b".into())));
        for text in ["", "dir", "dir:", "kube:x", "etcd:x"] {
            assert!(store(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parses_namespace_lists() {
        let names = vec!["a".to_owned(), "b-1".to_owned()];
        assert_eq!(namespaces(" a,,b-1 "), Ok(names));
        assert_eq!(namespaces(""), Ok(Vec::new()));
        assert!(namespaces("a,B").is_err());
    }
}
