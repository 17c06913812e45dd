//! The values that flags take, parsed: each error says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A duration as Go and `wash` write it: `30s`, `500ms`, `1m30s`, `1.5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let form = "write a number and a unit, like 30s, 500ms or 1m30s";
    if text.is_empty() {
        return Err(form.to_owned());
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("the unit is missing, {form}"))?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("{unit:?} is no unit, {form}")),
        };
        let number: f64 = number.parse().map_err(|_| form.to_owned())?;
        let part = Duration::try_from_secs_f64(number * seconds);
        total = part
            .ok()
            .and_then(|part| total.checked_add(part))
            .ok_or("too long")?;
        rest = tail;
    }
    Ok(total)
}

/// A duration between two bounds.
pub(super) fn duration_in(
    text: &str,
    bounds: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let value = duration(text)?;
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "must be between {:?} and {:?}",
        bounds.start(),
        bounds.end()
    ))
}

/// A name that is not empty and has no white space.
pub(super) fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("must not be empty and have no white space".to_owned());
    }
    Ok(text.to_owned())
}

/// A boolean as Go's flags take it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

/// An address to listen at, as Go writes it: `:8081`, `127.0.0.1:8081`, or `0` for none.
pub(super) fn bind(text: &str) -> Result<Bind, String> {
    if text == "0" {
        return Ok(Bind::Off);
    }
    let form = "write [IP]:PORT, like :8081, or 0 for none";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    let port: u16 = port.parse().map_err(|_| form)?;
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| form)?,
    };
    Ok(Bind::At(SocketAddr::new(ip, port)))
}

/// Which store, before its details are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreName {
    /// `kube`
    Kube,
    /// `dir:PATH`
    Dir(PathBuf),
}

/// A store, `kube` or `dir:PATH`.
pub(super) fn store(text: &str) -> Result<StoreName, String> {
    match text.split_once(':') {
        None if text == "kube" => Ok(StoreName::Kube),
        Some(("dir", path)) if !path.is_empty() => Ok(StoreName::Dir(PathBuf::from(path))),
        _ => Err("write kube, or dir:PATH with the directory of the manifests".to_owned()),
    }
}

/// A namespace, or another DNS-1123 label.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty() && text.len() <= 63 && text.chars().all(inner);
    if good && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a namespace is up to 63 lower case letters, digits and \"-\"".to_owned())
}

/// Namespaces separated by commas; empty ones are passed over, as upstream does.
pub(super) fn namespaces(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    names.map(namespace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1 s",
            "1d",
            "1.2.3s",
            "1s2",
            "999999999999999999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
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
    fn stores() {
        assert_eq!(store("kube"), Ok(StoreName::Kube));
        assert_eq!(store("dir:a:b"), Ok(StoreName::Dir("a:b".into())));
        for text in ["", "dir", "dir:", "kube:x", "etcd:x"] {
            assert!(store(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_of_namespaces() {
        let names = vec!["a".to_owned(), "b-1".to_owned()];
        assert_eq!(namespaces(" a,,b-1 "), Ok(names));
        assert_eq!(namespaces(""), Ok(Vec::new()));
        assert!(namespaces("a,B").is_err());
    }
}
