//! Glob patterns over check and requirement ids, and suggestions for misspelled names. Pure.

use super::meta::CheckMeta;

/// Minimum similarity of a suggested name.
const MIN_SIMILARITY: f64 = 0.6;

/// Pattern in which `*` matches any sequence of characters: `start/*`, `HOST-SVC-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Returns whether the id of the check, or of a requirement that it covers, matches.
    pub fn matches(&self, check: &CheckMeta) -> bool {
        self.matches_id(check.id)
            || check
                .covers
                .iter()
                .any(|covered| self.matches_id(covered.id))
    }

    /// Returns whether an id matches, ignoring case.
    pub fn matches_id(&self, id: &str) -> bool {
        glob(
            self.0.to_lowercase().as_bytes(),
            id.to_lowercase().as_bytes(),
        )
    }
}

/// Matches iteratively, in at most `pattern.len() * text.len()` steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut matched) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while matched < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, matched));
                at += 1;
            }
            Some(byte) if text.get(matched) == Some(byte) => {
                at += 1;
                matched += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    at = after + 1;
                    matched = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Returns the known name that is most similar to `name`, if any is similar enough.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase();
    let similarity = |known: &str| strsim::jaro_winkler(&name, &known.to_lowercase());
    let scored = known.into_iter().map(|known| (similarity(known), known));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= MIN_SIMILARITY).then_some(best.1)
}

/// Returns `; did you mean …?`, or an empty string if no known name is similar enough.
pub fn suggestion<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    nearest(name, known)
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_sequence() {
        let matches = |pattern: &str, text: &str| Pattern(pattern.into()).matches_id(text);
        assert!(matches("start/*", "start/simultaneous"));
        assert!(matches("HOST-SVC-*", "HOST-SVC-001"));
        assert!(matches("host-svc-00*", "HOST-SVC-001"));
        assert!(matches("*", ""));
        assert!(matches("*a*b*", "xxaxxbxx"));
        assert!(!matches("start/*", "stop/x"));
        assert!(!matches("start", "start/x"));
        let hard = "a*".repeat(50) + "b";
        assert!(!matches(&hard, &"a".repeat(2000)));
    }

    #[test]
    fn suggests_similar_names() {
        assert_eq!(
            nearest("strat/dup", ["start/dup", "wire/x"]),
            Some("start/dup")
        );
        assert_eq!(suggestion("zzz", ["start/dup"]), "");
    }
}
