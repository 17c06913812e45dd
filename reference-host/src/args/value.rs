//! Parsers of flag values. Each error says what a valid value looks like.

use std::path::PathBuf;

use berth_sdk::address::{AddressError, Authority, HostAddress, MAX_HOST_NAME_BYTES};
pub(super) use berth_sdk::cli::value::{duration_in, host_id, no_whitespace};

use crate::config::RESERVED_LABEL_PREFIX;

/// Parses a label, `KEY=VALUE`. Schedulers copy labels to Kubernetes objects, so key and value
/// follow its syntax.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE, such as zone=eu-1")?;
    if key.starts_with(RESERVED_LABEL_PREFIX) {
        return Err(format!(
            "the host itself sets the labels with the prefix {RESERVED_LABEL_PREFIX}"
        ));
    }
    if key == crate::config::HOST_GROUP_LABEL {
        return Err("use --host-group to set the host group".to_owned());
    }
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() || !is_label_text(name) || prefix.is_some_and(|it| !is_dns_name(it)) {
        return Err(format!("{key:?} is not a Kubernetes label key"));
    }
    let value = label_value(value)?;
    Ok((key.to_owned(), value))
}

/// Parses the value of a label.
pub(super) fn label_value(value: &str) -> Result<String, String> {
    if is_label_text(value) {
        return Ok(value.to_owned());
    }
    Err(format!(
        "{value:?} is not a Kubernetes label value: at most 63 letters, digits, \"-\", \"_\" and \
         \".\", with a letter or digit at both ends"
    ))
}

/// Parses a registry, `HOST[:PORT]`, and returns its canonical form.
pub(super) fn registry(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err("a registry has no scheme; expected HOST[:PORT]".to_owned());
    }
    match text.parse::<Authority>() {
        Ok(authority) => Ok(authority.to_string()),
        Err(AddressError::Port) => Err("the port must be a number between 1 and 65535".to_owned()),
        Err(reason) => Err(format!(
            "it {reason}; expected HOST[:PORT], such as 10.0.0.5:5000 or [fd00::5]:5000, \
             without a path"
        )),
    }
}

/// Parses the absolute path of a directory.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("must be an absolute path, such as /srv/data".to_owned())
    }
}

/// Parses the name or address of this host. An IPv6 address may have brackets and is returned
/// without them. Names in private networks may contain underscores.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let without_underscores = text.replace('_', "x");
    match HostAddress::parse(&without_underscores) {
        Ok(HostAddress::Ip(address)) => Ok(address.to_string()),
        Ok(HostAddress::Name(_)) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "expected an address, or a name of at most {MAX_HOST_NAME_BYTES} letters, digits, \
             \"-\" and \"_\", in labels of at most 63 characters"
        )),
    }
}

fn is_label_text(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(inner)
        && edge(text.chars().next())
        && edge(text.chars().last())
}

fn is_dns_name(text: &str) -> bool {
    let label = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.len() <= 63 && part.chars().all(inner) && !part.starts_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_follows_kubernetes_syntax() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("zone=eu-1"), pair("zone", "eu-1"));
        assert_eq!(label("acme.io/tier="), pair("acme.io/tier", ""));
        for (text, part) in [
            ("zone", "KEY=VALUE"),
            ("=x", "label key"),
            ("a/b/c=x", "label key"),
            ("/b=x", "label key"),
            ("-a=x", "label key"),
            ("a=b=c", "label value"),
            ("a=b c", "label value"),
            ("berth.dev/cordon=true", "the host itself sets"),
            ("hostgroup=x", "--host-group"),
        ] {
            let error = label(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(label(&format!("a={}", "x".repeat(64))).is_err());
    }

    #[test]
    fn registry_is_host_and_port() {
        for (text, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("Registry.Local", "registry.local"),
            ("localhost", "localhost"),
            ("[::1]:5000", "[::1]:5000"),
            ("[0::1]:5000", "[::1]:5000"),
            ("[fd00::5]", "[fd00::5]"),
        ] {
            assert_eq!(registry(text), Ok(expected.to_owned()));
        }
        for text in [
            "",
            ":5000",
            "http://a",
            "a/b",
            "a:0",
            "a:70000",
            "a:b",
            "a b",
            "::1",
            "::1:5000",
            "[::1",
            "[fe80::1%eth0]:5000",
            "u@a",
        ] {
            assert!(registry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_name_is_a_name_or_an_address() {
        for (text, expected) in [
            ("node-1.example", "node-1.example"),
            ("Node_1", "Node_1"),
            ("10.0.0.5", "10.0.0.5"),
            ("fd00::7", "fd00::7"),
            ("[fd00::7]", "fd00::7"),
        ] {
            assert_eq!(host_name(text), Ok(expected.to_owned()));
        }
        let long = "a".repeat(300);
        for text in [
            "",
            "a b",
            "http://a",
            "a:80",
            "fe80::1%eth0",
            "[::1]:80",
            long.as_str(),
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }
}
