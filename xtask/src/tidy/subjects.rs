//! Each crate builds NATS subjects in one file only.

use std::collections::BTreeMap;

use super::lexer::Lexed;
use super::{Tree, Violation};

/// Prefixes of the subjects of the protocol.
const PREFIXES: [&str; 2] = ["runtime.host.", "runtime.operator."];

/// Crate of the repository's tools, which search for subjects but do not use them.
const EXEMPT_CRATE: &str = "xtask";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut users: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for file in tree.rust().filter(|file| file.is_shipped()) {
        let line = file
            .lexed
            .strings
            .lines()
            .take(shipped_lines(file.lexed))
            .position(|line| PREFIXES.iter().any(|prefix| line.contains(prefix)));
        if let Some(line) = line.filter(|_| file.crate_dir() != EXEMPT_CRATE) {
            users
                .entry(file.crate_dir())
                .or_default()
                .push((file.path, line + 1));
        }
    }
    let mut violations = Vec::new();
    for files in users.values().filter(|files| files.len() > 1) {
        let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        for (path, line) in files {
            let text = format!(
                "contains a subject, as do other files of its crate ({}); build subjects in one \
                 file, because a typo in a subject causes no error",
                names.join(", ")
            );
            violations.push(Violation::failure(path, *line, text));
        }
    }
    violations
}

/// Returns the number of lines before the unit tests, which may contain subjects.
fn shipped_lines(lexed: &Lexed) -> usize {
    let tests = lexed
        .code
        .lines()
        .position(|line| line.trim() == "#[cfg(test)]");
    tests.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "//! A.\nconst A: &str = \"runtime.host.a\";\n";

    #[test]
    fn accepts_one_file_with_subjects_in_each_crate() {
        let tree = Tree::of(&[
            ("a/src/subject.rs", SUBJECT),
            ("b/src/subject.rs", SUBJECT),
            ("b/tests/it/main.rs", SUBJECT),
            ("b/src/other.rs", "//! A.\n// \"runtime.host.a\"\n"),
            (
                "b/src/more.rs",
                "//! A.\n#[cfg(test)]\nmod tests { f(\"runtime.host.a\"); }\n",
            ),
        ]);
        assert_eq!(violations(&tree), []);
    }

    #[test]
    fn rejects_second_file_with_subjects() {
        let tree = Tree::of(&[("a/src/subject.rs", SUBJECT), ("a/src/other.rs", SUBJECT)]);
        assert_eq!(violations(&tree).len(), 2);
    }
}
