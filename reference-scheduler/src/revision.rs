//! The revision of a replica set's template: a short hash that both schedulers compute alike.
//!
//! It stands in an annotation of every workload. A scheduler that computed it otherwise would take
//! each workload in the cluster for one of an old revision and replace it.

use std::fmt::Write as _;

use crate::api::WorkloadSpec;

/// The characters of a revision: no vowels and no digits that look like letters, so that it spells
/// nothing.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The offset basis and the prime of the 32-bit FNV-1a hash.
const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// The revision of `spec`. Fields that this version does not know do not count: upstream drops them
/// as it reads.
#[must_use]
pub fn revision(spec: &WorkloadSpec) -> String {
    encode(fnv1a(hashed_json(spec).as_bytes()))
}

/// The 32-bit FNV-1a hash of `bytes`.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_BASIS, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

/// The decimal digits of `hash`, each by its ASCII code in the alphabet.
fn encode(hash: u32) -> String {
    hash.to_string()
        .bytes()
        .filter_map(|digit| ALPHABET.get(usize::from(digit) % ALPHABET.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

/// The JSON that is hashed: the field order of [`WorkloadSpec`], map keys sorted, zero values left
/// out, no spaces, and the characters that Go escapes for the sake of HTML and JavaScript escaped.
fn hashed_json(spec: &WorkloadSpec) -> String {
    // A tree of strings, numbers and maps with string keys always has a JSON form.
    let json = serde_json::to_string(&spec.without_extra()).unwrap_or_default();
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // None of these occurs outside of strings.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input, bytes that are hashed, revision: as a cluster run by upstream 2.7.0 holds them.
    const VECTORS: &str = include_str!("../tests/data/revision-vectors.tsv");

    #[test]
    fn every_vector_hashes_as_upstream_does() {
        let mut seen = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let [input, bytes, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("three columns in {line}");
            };
            let spec: WorkloadSpec = serde_json::from_str(input).expect("a spec");
            assert_eq!(hashed_json(&spec), bytes);
            assert_eq!(revision(&spec), expected, "{input}");
            seen += 1;
        }
        assert_eq!(seen, 6, "the file holds six vectors");
    }

    #[test]
    fn unknown_fields_do_not_count() {
        let with = r#"{"components":[{"name":"a","image":"i","later":1}],"volumes":[{"name":"v","ephemeral":{"later":1}}]}"#;
        let without =
            r#"{"components":[{"name":"a","image":"i"}],"volumes":[{"name":"v","ephemeral":{}}]}"#;
        let of = |text| revision(&serde_json::from_str(text).expect("a spec"));
        assert_eq!(of(with), of(without));
    }

    #[test]
    fn the_restarts_of_a_service_count_even_when_they_are_none() {
        let spec: WorkloadSpec =
            serde_json::from_str(r#"{"service":{"image":"i"}}"#).expect("a spec");
        assert_eq!(
            hashed_json(&spec),
            r#"{"service":{"image":"i","maxRestarts":0}}"#
        );
    }
}
