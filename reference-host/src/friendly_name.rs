//! The friendly name of a host. It becomes the name of a Kubernetes object, so it is a DNS-1123
//! label and unique in the fleet.

/// Limit of the part that comes from the host name, in bytes. With the suffix, the name is still a
/// valid label.
const MAX_STEM_BYTES: usize = 48;

/// Letters and digits that people do not confuse with one another.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";

/// 27 to the power of 6 is 387 million: ten thousand hosts with the same host name have a
/// collision with a probability of 1/8. With two random words, collisions practically never happen.
const SUFFIX_LENGTH: usize = 6;

const ADJECTIVES: [&str; 24] = [
    "amber", "brisk", "calm", "copper", "deep", "eager", "fair", "gentle", "hardy", "indigo",
    "keen", "light", "mellow", "nimble", "open", "patient", "quiet", "rapid", "steady", "tidal",
    "upper", "vivid", "warm", "young",
];

const NOUNS: [&str; 24] = [
    "anchor", "bay", "beacon", "buoy", "canal", "cape", "dock", "ferry", "fjord", "gull", "harbor",
    "island", "jetty", "keel", "lagoon", "mast", "pier", "quay", "reef", "sail", "tide", "tug",
    "wharf", "wave",
];

/// Returns a new name: the host name if there is one, else two random words, with a random suffix.
pub fn friendly_name(host_name: Option<&str>) -> String {
    let stem = host_name
        .map(label)
        .filter(|stem| !stem.is_empty())
        .unwrap_or_else(two_words);
    let suffix: String = (0..SUFFIX_LENGTH)
        .map(|_| char::from(pick(SUFFIX_ALPHABET)))
        .collect();
    format!("{stem}-{suffix}")
}

fn two_words() -> String {
    format!("{}-{}", pick(&ADJECTIVES), pick(&NOUNS))
}

/// Converts a name to a DNS label: `10.0.0.1` becomes `10-0-0-1`.
fn label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars().take(MAX_STEM_BYTES) {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.trim_end_matches('-').to_owned()
}

fn pick<T: Copy + Default>(choices: &[T]) -> T {
    let index = rand::random_range(0..choices.len().max(1));
    choices.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use berth_sdk::address::is_host_name;

    #[test]
    fn names_keep_their_host_name_and_differ() {
        let names = [
            friendly_name(Some("Node_1.Example")),
            friendly_name(Some("Node_1.Example")),
        ];
        assert!(names[0].starts_with("node-1-example-"), "{}", names[0]);
        assert_ne!(names[0], names[1]);
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_label(name in proptest::option::of("\\PC{0,80}")) {
            let friendly = friendly_name(name.as_deref());
            prop_assert!(is_host_name(&friendly), "{}", friendly);
            prop_assert!(friendly.len() <= 63 && !friendly.contains('.'), "{}", friendly);
            prop_assert_eq!(friendly.to_ascii_lowercase(), friendly);
        }
    }
}
