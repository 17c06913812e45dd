//! Subjects and the patterns that match them.

/// One token of any kind.
pub(crate) const ANY: &[u8] = b"*";
/// All tokens that are left, at least one.
pub(crate) const REST: &[u8] = b">";

/// Whether messages to `subject` reach a subscription to `pattern`.
///
/// `*` stands for one token, `>` at the end for one or more. A subject with an empty token matches nothing.
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

/// Whether a pattern can be subscribed to: no empty token, `>` only at its end.
pub(crate) fn is_pattern(pattern: &[u8]) -> bool {
    let mut tokens = pattern.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == REST && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Whether a subject can be published to: no empty token, no wildcard.
pub(crate) fn is_literal(subject: &[u8]) -> bool {
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
    fn misplaced_wildcards_and_empty_tokens_are_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"] {
            assert!(!is_pattern(bad.as_bytes()), "{bad}");
        }
        for good in ["a", "a.*", "*.b", "a.>", ">", "a>b", "foo*"] {
            assert!(is_pattern(good.as_bytes()), "{good}");
        }
        assert!(is_literal(b"a.b") && !is_literal(b"a.*") && !is_literal(b"a.>"));
    }
}
