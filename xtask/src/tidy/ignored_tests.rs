//! No test is ignored.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for (index, line) in file.blanked.code.lines().enumerate() {
            let squeezed: String = line.split_whitespace().collect();
            if squeezed.contains("#[ignore") || squeezed.contains(",ignore)") {
                let text = "ignores a test; one that is not run protects nothing and reads as if \
                            it did: repair it or remove it";
                found.push(Violation::failure(file.path, index + 1, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_test_is_refused() {
        let source = "//! A.\n#[test]\n#[ignore = \"slow\"]\nfn a() {}\n// #[ignore]\n";
        let found = violations(&Tree::of(&[("a/src/a.rs", source)]));
        assert_eq!(
            found.iter().map(|found| found.line).collect::<Vec<_>>(),
            [3]
        );
    }
}
