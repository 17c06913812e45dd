//! Every Rust file begins with a `//!` sentence.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|file| {
            let first_line = file
                .content
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("//!"));
            first_line.is_none_or(|sentence| sentence.trim().len() <= 2)
        })
        .map(|file| {
            let text = "does not begin with a `//!` sentence; describe the topic of the file, so \
                        that readers know whether they need it";
            Violation::failure(file.path, 1, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_file_without_first_sentence() {
        let tree = Tree::of(&[
            ("a/src/a.rs", "//! A topic.\n"),
            ("a/src/b.rs", "use a;\n//! Late."),
            ("a/src/c.rs", "//!\n//! Late."),
            ("a/src/d.rs", "// @generated"),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| violation.path)
            .collect();
        assert_eq!(paths, ["a/src/b.rs", "a/src/c.rs"]);
    }
}
