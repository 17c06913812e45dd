//! Name and labels of a Host object. A heartbeat may have others than Kubernetes accepts
//! (SCHED-REG-005); placement uses those of the heartbeat.

use std::collections::BTreeMap;

use crate::revision::fnv1a;

/// Maximum length of the name of an object and of the prefix of a label, as in Kubernetes.
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// Maximum length of the name and the value of a label, as in Kubernetes.
const LABEL_BYTES_MAX: usize = 63;

/// Returns the name of the object of a host: its friendly name, or if that is not a valid name of
/// an object, its letters and digits and a hash of the whole name.
pub(super) fn object_name(friendly_name: &str) -> String {
    if is_subdomain(friendly_name) {
        return friendly_name.to_owned();
    }
    let hash = format!("-{:08x}", fnv1a(friendly_name.as_bytes()));
    let lowercase = friendly_name.chars().map(|c| c.to_ascii_lowercase());
    let valid = lowercase.map(|c| if is_lowercase_alphanumeric(c) { c } else { '-' });
    let valid: String = valid.take(SUBDOMAIN_BYTES_MAX - hash.len()).collect();
    match valid.trim_matches('-') {
        "" => format!("host{hash}"),
        valid => format!("{valid}{hash}"),
    }
}

/// Returns the labels that an object may have.
pub(super) fn object_labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    let valid = labels
        .into_iter()
        .filter(|(name, value)| is_label_name(name) && (value.is_empty() || is_qualified(value)));
    valid
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn is_label_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
        None => is_qualified(name),
    }
}

fn is_qualified(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let is_inner = |c: char| is_end(c) || matches!(c, '-' | '_' | '.');
    text.len() <= LABEL_BYTES_MAX
        && text.chars().all(is_inner)
        && text.starts_with(is_end)
        && text.ends_with(is_end)
}

fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        part.chars()
            .all(|c| is_lowercase_alphanumeric(c) || c == '-')
            && part.starts_with(is_lowercase_alphanumeric)
            && part.ends_with(is_lowercase_alphanumeric)
    };
    text.len() <= SUBDOMAIN_BYTES_MAX && text.split('.').all(is_part)
}

fn is_lowercase_alphanumeric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_are_unchanged_and_others_become_valid() {
        let longest = "a".repeat(253);
        for name in ["a", "0", "host-1.example", &longest] {
            assert_eq!(object_name(name), name);
        }
        let too_long = "a".repeat(254);
        let others = [
            "", "-", "A", "a_b", "a b", "a.", ".a", "a..b", "-a", "a-", "ü", "a/../b", "B", "a\n",
            &too_long,
        ];
        let mut names: Vec<String> = others.map(object_name).into();
        assert!(names.iter().all(|name| is_subdomain(name)), "{names:?}");
        assert_eq!(object_name("My Host!"), object_name("My Host!"));
        assert!(object_name("My Host!").starts_with("my-host-"));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), others.len(), "different names stay different");
    }

    #[test]
    fn keeps_valid_labels() {
        let (long, longest) = ("v".repeat(64), "v".repeat(63));
        let labels: BTreeMap<String, String> = [
            ("zone", "a"),
            ("empty", ""),
            ("berth.dev/discover", "true"),
            ("Upper_Case.name-1", "V_1.x"),
            ("longest", &longest),
            ("long", &long),
            ("space", "a b"),
            ("end", "a-"),
            ("a b", "c"),
            ("", "c"),
            ("/a", "c"),
            ("a/", "c"),
            ("a/b/c", "c"),
            ("UPPER/a", "c"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let valid = object_labels(&labels);
        let names: Vec<&str> = valid.keys().map(String::as_str).collect();
        let expected = [
            "Upper_Case.name-1",
            "berth.dev/discover",
            "empty",
            "longest",
            "zone",
        ];
        assert_eq!(names, expected);
    }
}
