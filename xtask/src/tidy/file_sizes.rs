//! Limits the size of files.

use super::{Severity, Tree, Violation};

/// Size above which a file needs a reason.
const WARN_LINES: usize = 500;
/// Maximum size of a file.
const FAIL_LINES: usize = 800;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter_map(|file| {
            let lines = file.content.lines().count();
            let severity = if lines > FAIL_LINES {
                Severity::Failure
            } else if lines > WARN_LINES {
                Severity::Warning
            } else {
                return None;
            };
            let text = format!(
                "has {lines} lines; above {WARN_LINES} a file has more than one topic, and \
                 {FAIL_LINES} is the limit"
            );
            Some(Violation {
                path: file.path.to_owned(),
                line: 0,
                severity,
                text,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_of_long_files_and_rejects_longer_ones() {
        let long = "//! A.\n".repeat(501);
        let longer = "//! A.\n".repeat(801);
        let tree = Tree::of(&[("a/src/a.rs", &long), ("a/src/b.rs", &longer)]);
        let severities: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| violation.severity)
            .collect();
        assert_eq!(severities, [Severity::Warning, Severity::Failure]);
    }
}
