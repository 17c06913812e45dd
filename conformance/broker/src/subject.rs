//! Subjects and subscription patterns.

/// Matches exactly one token.
pub(crate) const ANY: &[u8] = b"*";
/// Matches one or more tokens; valid only at the end of a pattern.
pub(crate) const REST: &[u8] = b">";

/// Returns whether a subscription to `pattern` receives messages on `subject`.
///
/// `*` matches one token; `>` at the end matches one or more. A subject with an empty token matches
/// nothing.
pub fn matches(pattern: &str, subject: &str) -> bool {
    if subject.split('.').any(str::is_empty) {
        return false;
    }
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token.as_bytes(), subject.next()) {
            (REST, Some(_)) => return true,
            (ANY, Some(_)) => {}
            (literal, Some(own)) if literal == own.as_bytes() => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

/// Returns whether a pattern is valid in a subscription: no empty token, `>` only at its end.
pub(crate) fn is_valid_pattern(pattern: &[u8]) -> bool {
    let mut tokens = pattern.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == REST && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Returns whether a subject is valid in a publication: no empty token, no wildcard.
pub(crate) fn is_valid_literal(subject: &[u8]) -> bool {
    subject
        .split(|byte| *byte == b'.')
        .all(|token| !token.is_empty() && token != ANY && token != REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*", "a..b", false),
            (">", "a..b", false),
            ("a*", "a*", true),
            ("a*", "ab", false),
        ] {
            assert_eq!(
                matches(pattern, subject),
                expected,
                "{pattern} on {subject}"
            );
        }
    }

    #[test]
    fn rejects_misplaced_wildcards_and_empty_tokens() {
        for invalid in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"] {
            assert!(!is_valid_pattern(invalid.as_bytes()), "{invalid}");
        }
        for valid in ["a", "a.*", "*.b", "a.>", ">", "a>b", "foo*"] {
            assert!(is_valid_pattern(valid.as_bytes()), "{valid}");
        }
        assert!(is_valid_literal(b"a.b") && !is_valid_literal(b"a.*") && !is_valid_literal(b"a.>"));
    }
}
