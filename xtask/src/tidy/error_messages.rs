//! Error messages say what failed and name its object.

use super::{Tree, Violation};

/// Fewest words of a message without a placeholder that can name an object and its state.
const MIN_WORDS: usize = 2;

/// Beginnings that name nothing.
const EMPTY_OPENINGS: [&str; 9] = [
    "it ",
    "nobody ",
    "nothing ",
    "somebody ",
    "something ",
    "that ",
    "there is ",
    "this ",
    "what ",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust().filter(super::tree::RustFile::is_shipped) {
        let code = file.lexed.code.lines();
        for (index, (code, source)) in code.zip(file.content.lines()).enumerate() {
            let Some(message) = message(code, source) else {
                continue;
            };
            let lower = message.to_lowercase();
            let is_empty = EMPTY_OPENINGS
                .iter()
                .any(|opening| lower.starts_with(opening));
            let words = message.split('"').next().unwrap_or_default();
            let names_object =
                message.contains('{') || words.split_whitespace().count() >= MIN_WORDS;
            if is_empty || !names_object {
                let text = format!(
                    "the error message {message:?} does not name its object; write \"cannot VERB \
                     OBJECT\" or begin with the object, because readers see only that line"
                );
                violations.push(Violation::failure(file.path, index + 1, text));
            }
        }
    }
    violations
}

/// Returns the beginning of the message in the line of an `#[error("…")]` attribute.
fn message<'a>(code: &str, source: &'a str) -> Option<&'a str> {
    if !code.trim_start().starts_with("#[error(\"") {
        return None;
    }
    source.split_once("#[error(\"").map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_messages_without_object() {
        let source = "//! E.\n#[error(\"cannot read {path}\")]\n#[error(\"there is no store\")]\n\
                      #[error(\"late\")]\n#[error(transparent)]\n#[error(\"unknown field `{name}`\")]\n";
        let lines: Vec<_> = violations(&Tree::of(&[("a/src/a.rs", source)]))
            .iter()
            .map(|violation| violation.line)
            .collect();
        assert_eq!(lines, [3, 4]);
    }
}
