//! Subjects are spelled in one file of each crate.

use std::collections::BTreeMap;

use super::blanking::Blanked;
use super::{Tree, Violation};

/// How every subject of the protocol begins.
const PREFIXES: [&str; 2] = ["runtime.host.", "runtime.operator."];

/// The tools of this repository look for subjects and send none.
const EXEMPT_CRATE: &str = "xtask";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut spelled: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    for file in tree.rust().filter(|file| file.is_shipped()) {
        let line = file
            .blanked
            .strings
            .lines()
            .take(shipped_lines(file.blanked))
            .position(|line| PREFIXES.iter().any(|prefix| line.contains(prefix)));
        if let Some(line) = line.filter(|_| file.crate_dir() != EXEMPT_CRATE) {
            spelled
                .entry(file.crate_dir())
                .or_default()
                .push((file.path, line + 1));
        }
    }
    let mut found = Vec::new();
    for files in spelled.values().filter(|files| files.len() > 1) {
        let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        for (path, line) in files {
            let text = format!(
                "spells a subject, and so do others of its crate ({}); build subjects in one \
                 file, because a typo in one is silence",
                names.join(", ")
            );
            found.push(Violation::failure(path, *line, text));
        }
    }
    found
}

/// How many lines stand before the unit tests, which may spell what they expect.
fn shipped_lines(blanked: &Blanked) -> usize {
    let tests = blanked
        .code
        .lines()
        .position(|line| line.trim() == "#[cfg(test)]");
    tests.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPELLS: &str = "//! A.\nconst A: &str = \"runtime.host.a\";\n";

    #[test]
    fn one_file_of_a_crate_may_spell_subjects() {
        let tree = Tree::of(&[
            ("a/src/subject.rs", SPELLS),
            ("b/src/subject.rs", SPELLS),
            ("b/tests/it/main.rs", SPELLS),
            ("b/src/other.rs", "//! A.\n// \"runtime.host.a\"\n"),
            (
                "b/src/more.rs",
                "//! A.\n#[cfg(test)]\nmod tests { f(\"runtime.host.a\"); }\n",
            ),
        ]);
        assert_eq!(violations(&tree), []);
    }

    #[test]
    fn a_second_file_is_refused() {
        let tree = Tree::of(&[("a/src/subject.rs", SPELLS), ("a/src/other.rs", SPELLS)]);
        assert_eq!(violations(&tree).len(), 2);
    }
}
