//! Every Rust file opens with one `//!` sentence.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|file| {
            let opening = file
                .content
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("//!"));
            opening.is_none_or(|sentence| sentence.trim().len() <= 2)
        })
        .map(|file| {
            let text = "does not open with a `//!` sentence; say what the file is about, so that \
                        it can be found and left again without being read";
            Violation::failure(file.path, 1, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_first_sentence_is_refused() {
        let tree = Tree::of(&[
            ("a/src/a.rs", "//! What it is.\n"),
            ("a/src/b.rs", "use a;\n//! Late."),
            ("a/src/c.rs", "//!\n//! Late."),
            ("a/src/d.rs", "// @generated"),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|found| found.path)
            .collect();
        assert_eq!(paths, ["a/src/b.rs", "a/src/c.rs"]);
    }
}
