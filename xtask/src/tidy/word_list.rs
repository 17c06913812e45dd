//! Words that this repository does not use, each with its replacement.

use super::{Tree, Violation};

/// A word or phrase in lower case, and the words to use instead.
type Entry = (&'static str, &'static str);

/// Matched as whole words in any letter case, in prose and in names.
const WORDS: [Entry; 36] = [
    (
        "anew",
        "say `again`, or name the action: recreated, reconnected",
    ),
    ("be had", "say `available`"),
    ("bear with", "say `tolerate`"),
    ("bears with", "say `tolerates`"),
    ("by and by", "say `gradually` or give the interval"),
    ("chore", "say `task`"),
    ("chores", "say `tasks`"),
    ("chorus", "metaphor: say `background hosts`"),
    ("deaf", "say `no responders`"),
    (
        "desk",
        "metaphor: name the role, such as request handler or store",
    ),
    ("for ever", "say `indefinitely` or `forever`"),
    (
        "ghost",
        "metaphor: say what remains, such as a stale object",
    ),
    ("hands and eyes", "metaphor: name the object"),
    ("haunt", "metaphor: say `remain` or `resurrect`"),
    ("haunts", "metaphor: say `remains` or `resurrects`"),
    ("is none of", "say `is not one of`"),
    ("lately", "say `recently`"),
    ("lay hold", "say `acquire`"),
    ("let go of", "say `release`"),
    ("lets go", "say `releases`"),
    ("mended", "say `fixed`"),
    ("mends", "say `fixes`"),
    ("seen to by", "say `enforced by`"),
    ("shelf", "metaphor: say `repository` or `store`"),
    ("take for", "say `treat as`"),
    ("taken for", "say `treated as`"),
    ("takes for", "say `treats as`"),
    ("that are none", "say `that are invalid`"),
    ("that is none", "say `that is invalid`"),
    ("unwell", "say `unhealthy`"),
    ("what is no", "name the noun, and say `is not`"),
    ("which is none", "say `which is invalid`"),
    ("whoever", "name the person or the program"),
    ("whomever", "name the person or the program"),
    ("whosoever", "name the person or the program"),
    ("without a word", "say `silently` or `without a message`"),
];

/// The files that contain the words as data.
const EXEMPT: [&str; 2] = [
    "xtask/src/tidy/doc_openings.rs",
    "xtask/src/tidy/word_list.rs",
];

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 9] = [
    "rs", "md", "go", "py", "proto", "toml", "yaml", "tpl", "txt",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for extension in EXTENSIONS {
        for (path, content) in tree
            .hand_written(extension)
            .filter(|(path, _)| !EXEMPT.contains(path))
        {
            for (index, line) in content.lines().enumerate() {
                violations.extend(WORDS.iter().filter(|(word, _)| contains(line, word)).map(
                    |(word, instead)| {
                        let text = format!("contains {word:?}: {instead}");
                        Violation::failure(path, index + 1, text)
                    },
                ));
            }
        }
    }
    violations
}

/// Whether a line contains the words, not as part of a longer word. `_` and `-` separate words
/// as spaces do.
fn contains(line: &str, words: &str) -> bool {
    let line = line.to_lowercase().replace(['_', '-'], " ");
    let mut rest = line.as_str();
    while let Some(at) = rest.find(words) {
        let before = rest.get(..at).and_then(|text| text.chars().next_back());
        let after = rest.get(at + words.len()..).unwrap_or_default();
        let is_letter = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        if !is_letter(before) && !is_letter(after.chars().next()) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_words_in_prose_and_names() {
        let tree = Tree::of(&[
            (
                "a/src/a.rs",
                "//! A.\nfn haunt_it() {}\n/// Whoever asks.\n",
            ),
            ("docs/a.md", "A lathe, lately.\n"),
        ]);
        let lines: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| (violation.path, violation.line))
            .collect();
        assert_eq!(
            lines,
            [
                ("a/src/a.rs".to_owned(), 2),
                ("a/src/a.rs".to_owned(), 3),
                ("docs/a.md".to_owned(), 1),
            ]
        );
    }

    #[test]
    fn accepts_words_within_others() {
        assert!(!contains("amended desktop chlorate", "mended"));
        assert!(!contains("amended desktop chlorate", "desk"));
        assert!(contains("a desk; desktop", "desk"));
    }

    #[test]
    fn entries_are_sorted_and_unique() {
        assert!(WORDS.is_sorted_by(|one, other| one.0 < other.0));
    }
}
