//! Valid names of objects, which are also used as file names.

/// Maximum length of a name, as in Kubernetes.
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// Maximum length of a label, a part between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// Returns whether `name` is a DNS-1123 subdomain, as the name of an object must be. Such a name is
/// a safe file name too: it has no slash and no leading dot.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= SUBDOMAIN_BYTES_MAX && name.split('.').all(has_label_chars)
}

/// Returns whether `name` is a DNS-1123 label, as the name of a namespace must be.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= LABEL_BYTES_MAX && has_label_chars(name)
}

fn has_label_chars(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.chars().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_safe_file_names() {
        for valid in ["a", "hello-1", "a.b-c.d", "0"] {
            assert!(is_subdomain(valid), "{valid}");
        }
        let long = "a".repeat(254);
        for invalid in [
            "", ".", "..", "a/b", "a..b", ".a", "a.", "-a", "a-", "A", "ä", "a\0", &long,
        ] {
            assert!(!is_subdomain(invalid), "{invalid}");
        }
        assert!(!is_label("a.b") && is_label("kube-system"));
    }
}
