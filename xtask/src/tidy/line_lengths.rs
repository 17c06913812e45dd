//! Rust lines fit in 100 columns.

use super::{Tree, Violation};

/// Longest line in characters, as in `rustfmt.toml`.
const MAX_COLUMNS: usize = 100;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust() {
        let strings = file.lexed.strings.lines();
        for (index, (line, strings)) in file.content.lines().zip(strings).enumerate() {
            // A string may be a URL or a payload that cannot be broken.
            let is_string = !strings.trim().is_empty();
            if line.chars().count() > MAX_COLUMNS && !is_string {
                let text = format!(
                    "is longer than {MAX_COLUMNS} columns; rustfmt leaves comments and macros alone"
                );
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
    fn rejects_long_comments_and_accepts_long_strings() {
        let long = "x".repeat(100);
        let source = format!("//! A.\n// {long}\nlet a = \"{long}\";\n");
        let tree = Tree::of(&[("a/src/a.rs", source.as_str())]);
        let lines: Vec<_> = violations(&tree).iter().map(|found| found.line).collect();
        assert_eq!(lines, [2]);
    }
}
