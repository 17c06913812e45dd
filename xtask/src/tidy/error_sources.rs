//! The message of an error must not repeat its source.

use super::tree::RustFile;
use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .flat_map(|file| repeated_sources(&file))
        .collect()
}

fn repeated_sources(file: &RustFile<'_>) -> Vec<Violation> {
    let code = file.lexed.code.as_str();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[error(") {
        let open = at + "#[error".len();
        let Some(close) = closing(code, open) else {
            continue;
        };
        let Some(message) = file.content_at(open, close) else {
            continue;
        };
        let Some(fields) = fields_after(code, close + 1) else {
            continue;
        };
        for source in sources(fields) {
            let is_shown = [
                format!("{{{source}}}"),
                format!("{{{source}:"),
                format!(", {source}"),
            ]
            .iter()
            .any(|form| message.contains(form));
            if is_shown {
                let line = code
                    .get(..at)
                    .map_or(0, |before| before.matches('\n').count())
                    + 1;
                let text = format!(
                    "the message includes {{{source}}}, which is also the source; a printed \
                     error chain then contains it twice"
                );
                found.push(Violation::failure(file.path, line, text));
            }
        }
    }
    found
}

impl RustFile<'_> {
    /// Returns the original text of a range of the lexed code. Positions agree in characters, not
    /// in bytes.
    fn content_at(&self, from: usize, to: usize) -> Option<String> {
        let code = self.lexed.code.as_str();
        let (skip, take) = (
            code.get(..from)?.chars().count(),
            code.get(from..to)?.chars().count(),
        );
        Some(self.content.chars().skip(skip).take(take).collect())
    }
}

/// Returns the fields of the variant or struct after an attribute that ends at `at`, with their
/// brackets.
fn fields_after(code: &str, at: usize) -> Option<&str> {
    let rest = code.get(at..)?;
    let mut skipped = 0;
    // Skips further attributes.
    while let Some(attribute) = rest.get(skipped..)?.find("#[") {
        let first = rest.get(skipped..)?.find(['{', '(', ','])?;
        if first < attribute {
            break;
        }
        skipped = closing(rest, skipped + attribute + 1)? + 1;
    }
    let open = skipped + rest.get(skipped..)?.find(['{', '(', ',', '}'])?;
    match rest.as_bytes().get(open)? {
        b'{' | b'(' => rest.get(open..=closing(rest, open)?),
        _ => None,
    }
}

/// Returns the position of the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, byte) in code.as_bytes().iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the placeholder of each source field in a message: its name or its index.
fn sources(fields: &str) -> Vec<String> {
    let named = fields.starts_with('{');
    let inner = fields
        .get(1..fields.len().saturating_sub(1))
        .unwrap_or_default();
    let mut sources = Vec::new();
    for (index, field) in split_fields(inner).into_iter().enumerate() {
        let marked = field.contains("#[source]") || field.contains("#[from]");
        if named {
            let name = field.split(':').next().unwrap_or_default();
            let name = name
                .rsplit([' ', '\n', ']'])
                .next()
                .unwrap_or_default()
                .trim();
            if marked || name == "source" {
                sources.push(name.to_owned());
            }
        } else if marked {
            sources.push(index.to_string());
        }
    }
    sources
}

/// Splits fields at commas outside of brackets.
fn split_fields(inner: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0_i32, 0);
    let mut fields = Vec::new();
    for (index, char) in inner.char_indices() {
        match char {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                fields.extend(inner.get(from..index));
                from = index + 1;
            }
            _ => {}
        }
    }
    fields.extend(inner.get(from..).filter(|rest| !rest.trim().is_empty()));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(source: &str) -> Vec<usize> {
        violations(&Tree::of(&[("a/src/a.rs", source)]))
            .iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn rejects_message_with_source() {
        assert_eq!(lines("//! A.\n#[error(\"x: {0}\")]\nA(#[source] E),"), [2]);
        assert_eq!(
            lines("//! A.\n#[error(\"x: {1:?}\")]\nA(B, #[from] E),"),
            [2]
        );
        assert_eq!(
            lines("//! A.\n#[error(\"x: {source}\")]\nA { b: B, source: E },"),
            [2]
        );
        assert_eq!(
            lines("//! A.\n#[error(\"x: {e}\")]\n#[x(y)]\nA { #[source] e: M<A, B> },"),
            [2]
        );
        assert_eq!(
            lines("//! A.\n#[error(\"x {}\", source)]\npub struct A { source: E }"),
            [2]
        );
    }

    #[test]
    fn accepts_message_without_source() {
        assert_eq!(lines("//! A.\n#[error(\"x\")]\nA(#[source] E),"), NONE);
        assert_eq!(
            lines("//! A.\n#[error(\"x: {0}\")]\nA(String, #[source] E),"),
            NONE
        );
        assert_eq!(
            lines("//! A.\n#[error(\"é {path}\")]\nA { path: P, source: E },"),
            NONE
        );
        assert_eq!(
            lines("//! A.\n#[error(\"x\")]\nA,\n#[error(\"y {0}\")]\nB(u8),"),
            NONE
        );
    }
}
