//! The names that objects may have; they become names of files.

/// The longest name, as in Kubernetes.
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// The longest part between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// Whether it is a DNS-1123 subdomain: the name of an object. It can be the name of a file, too: no slash, no dot
/// at its beginning.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= SUBDOMAIN_BYTES_MAX && name.split('.').all(is_word)
}

/// Whether it is a DNS-1123 label: the name of a namespace.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= LABEL_BYTES_MAX && is_word(name)
}

fn is_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !word.is_empty() && word.chars().all(inner) && !word.starts_with('-') && !word.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_files() {
        for good in ["a", "hello-1", "a.b-c.d", "0"] {
            assert!(is_subdomain(good), "{good}");
        }
        let long = "a".repeat(254);
        for bad in [
            "", ".", "..", "a/b", "a..b", ".a", "a.", "-a", "a-", "A", "ä", "a\0", &long,
        ] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(!is_label("a.b") && is_label("kube-system"));
    }
}
