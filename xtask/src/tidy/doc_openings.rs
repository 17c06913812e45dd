//! Documentation begins with a noun or a verb, not with a headless clause.

use super::{Tree, Violation};

/// First words that begin a headless clause, or say nothing.
const OPENINGS: [&str; 13] = [
    "How",
    "That which",
    "Those that",
    "What",
    "Whatever",
    "Which",
    "Who",
    "Whoever",
    "Whom",
    "Whose",
    "Why",
    "Wherever",
    "Whichever",
];

/// Beginning of a documentation comment, by extension of the file.
const MARKERS: [(&str, &[&str]); 3] = [
    ("rs", &["/// ", "//! "]),
    ("py", &["\"\"\""]),
    ("proto", &["// "]),
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (extension, markers) in MARKERS {
        for (path, content) in tree.hand_written(extension) {
            let mut inside = false;
            for (index, line) in content.lines().enumerate() {
                let text = markers
                    .iter()
                    .find_map(|marker| line.trim().strip_prefix(marker));
                // Only the first line of a comment is its opening.
                if let Some(opening) = text.filter(|_| !inside).and_then(opening) {
                    let text = format!(
                        "documentation begins with `{opening}`; begin with a noun (\"Interval \
                         between heartbeats\") or a verb (\"Returns …\")"
                    );
                    violations.push(Violation::failure(path, index + 1, text));
                }
                inside = text.is_some();
            }
        }
    }
    violations
}

fn opening(text: &str) -> Option<&'static str> {
    OPENINGS.into_iter().find(|opening| {
        let rest = text.strip_prefix(opening);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_headless_openings() {
        let tree = Tree::of(&[
            (
                "a/src/a.rs",
                "//! What is here.\n\n/// Returns the host.\n/// Who asks is irrelevant.\n/// Which.\n",
            ),
            ("b/b.py", "\"\"\"Whose.\"\"\"\n"),
            ("p/p.proto", "// Whatever.\n"),
        ]);
        let found: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| (violation.path, violation.line))
            .collect();
        assert_eq!(
            found,
            [
                ("a/src/a.rs".to_owned(), 1),
                ("b/b.py".to_owned(), 1),
                ("p/p.proto".to_owned(), 1),
            ]
        );
    }

    #[test]
    fn accepts_words_that_begin_like_an_opening() {
        assert_eq!(opening("Whole numbers."), None);
        assert_eq!(opening("However."), None);
        assert_eq!(opening("Which."), Some("Which"));
    }
}
