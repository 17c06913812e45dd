//! The syntax of host names (RFC 1123).

/// Limit of a host name, in bytes.
pub const MAX_HOSTNAME_BYTES: usize = 253;

/// Limit of a label, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Returns whether `text` is a valid host name: labels of letters, digits and inner hyphens,
/// separated by dots.
pub fn is_hostname(text: &str) -> bool {
    text.len() <= MAX_HOSTNAME_BYTES && text.split('.').all(is_label)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_host_names_only() {
        for name in ["a", "a.b", "A-1.example", "127.0.0.1", &"a".repeat(63)] {
            assert!(is_hostname(name), "{name}");
        }
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(63),
        ]
        .join(".");
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
            assert!(!is_hostname(text), "{text}");
        }
    }
}
