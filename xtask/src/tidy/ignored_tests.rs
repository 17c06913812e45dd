//! Rejects ignored tests.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust() {
        for (index, line) in file.lexed.code.lines().enumerate() {
            let compact: String = line.split_whitespace().collect();
            if compact.contains("#[ignore") || compact.contains(",ignore)") {
                let text = "has an ignored test, which protects nothing but looks as if it did: \
                            fix or remove it";
                violations.push(Violation::failure(file.path, index + 1, text));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_ignored_test() {
        let source = "//! A.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n// #[ignore]\n";
        let found = violations(&Tree::of(&[("a/src/a.rs", source)]));
        assert_eq!(
            found.iter().map(|found| found.line).collect::<Vec<_>>(),
            [3]
        );
    }
}
