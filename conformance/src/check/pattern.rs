//! Glob patterns over checks and requirements, and the near spelling of what matches nothing. Pure.

use super::meta::CheckMeta;

/// Closer than this two names are worth suggesting.
const NEAR: f64 = 0.6;

/// A pattern with `*` for any run of characters: `start/*`, `HOST-SVC-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether a check has this id, or covers a requirement that does.
    pub fn matches(&self, check: &CheckMeta) -> bool {
        self.matches_id(check.id)
            || check
                .covers
                .iter()
                .any(|covered| self.matches_id(covered.id))
    }

    /// Whether the text matches, without regard to check.
    pub fn matches_id(&self, id: &str) -> bool {
        glob(
            self.0.to_lowercase().as_bytes(),
            id.to_lowercase().as_bytes(),
        )
    }
}

/// Iterative, so that no pattern takes more than pattern times text steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if text.get(seen) == Some(byte) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    at = after + 1;
                    seen = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// The known name closest to a misspelt one.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase();
    let distance = |known: &str| strsim::jaro_winkler(&name, &known.to_lowercase());
    let scored = known.into_iter().map(|known| (distance(known), known));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= NEAR).then_some(best.1)
}

/// `; did you mean ...?`, or nothing.
pub fn suggestion<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    nearest(name, known)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run() {
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
    fn near_spellings_are_found() {
        assert_eq!(
            nearest("strat/dup", ["start/dup", "wire/x"]),
            Some("start/dup")
        );
        assert_eq!(suggestion("zzz", ["start/dup"]), "");
    }
}
