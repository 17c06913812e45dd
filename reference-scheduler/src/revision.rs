//! The revision of a replica set's template: a short hash, the same as in wasmCloud's operator.
//!
//! Every workload has the revision of its template in an annotation. A scheduler with another hash
//! would consider every workload in the cluster outdated and replace all of them.

use std::fmt::Write as _;

use crate::api::WorkloadSpec;

/// Characters of a revision: without vowels and ambiguous digits, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Offset basis and prime of the 32-bit FNV-1a hash.
const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// Returns the revision of `spec`. Unknown fields have no effect, because wasmCloud's operator
/// drops them when it reads an object.
#[must_use]
pub fn revision(spec: &WorkloadSpec) -> String {
    encode(fnv1a(hashed_json(spec).as_bytes()))
}

/// Returns the 32-bit FNV-1a hash of `bytes`.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(FNV_BASIS, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

/// Encodes each decimal digit of `hash` as the letter at the index of its ASCII code, modulo the
/// length of the alphabet.
fn encode(hash: u32) -> String {
    hash.to_string()
        .bytes()
        .filter_map(|digit| ALPHABET.get(usize::from(digit) % ALPHABET.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

/// Returns the JSON to hash: in the field order of [`WorkloadSpec`], with sorted map keys, without
/// zero values and spaces, and with the characters escaped that Go escapes for HTML and JavaScript.
fn hashed_json(spec: &WorkloadSpec) -> String {
    // A tree of strings, numbers and maps with string keys always has a JSON form.
    let json = serde_json::to_string(&spec.without_extra()).unwrap_or_default();
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // These characters only occur in strings.
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

    /// Input, hashed bytes and revision, from a cluster with wasmCloud's operator 2.7.0.
    const VECTORS: &str = include_str!("../tests/data/revision-vectors.tsv");

    #[test]
    fn hashes_every_vector_like_operator() {
        let mut checked = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let [input, bytes, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("expected three columns in {line}");
            };
            let spec: WorkloadSpec = serde_json::from_str(input).expect("a spec");
            assert_eq!(hashed_json(&spec), bytes);
            assert_eq!(revision(&spec), expected, "{input}");
            checked += 1;
        }
        assert_eq!(checked, 6, "the file has six vectors");
    }

    #[test]
    fn ignores_unknown_fields() {
        let with = r#"{"components":[{"name":"a","image":"i","later":1}],"volumes":[{"name":"v","ephemeral":{"later":1}}]}"#;
        let without =
            r#"{"components":[{"name":"a","image":"i"}],"volumes":[{"name":"v","ephemeral":{}}]}"#;
        let revision_of = |text| revision(&serde_json::from_str(text).expect("a spec"));
        assert_eq!(revision_of(with), revision_of(without));
    }

    #[test]
    fn hashes_zero_restarts_of_service() {
        let spec: WorkloadSpec =
            serde_json::from_str(r#"{"service":{"image":"i"}}"#).expect("a spec");
        assert_eq!(
            hashed_json(&spec),
            r#"{"service":{"image":"i","maxRestarts":0}}"#
        );
    }
}
