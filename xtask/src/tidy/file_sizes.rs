//! Files stay small enough to be held in the head.

use super::{Severity, Tree, Violation};

/// Beyond this a file needs a reason.
const WARN_LINES: usize = 500;
/// Beyond this no reason is good enough.
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
                "has {lines} lines; beyond {WARN_LINES} it is about more than one noun, and \
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
    fn long_files_are_warned_of_and_longer_ones_refused() {
        let long = "//! A.\n".repeat(501);
        let longer = "//! A.\n".repeat(801);
        let tree = Tree::of(&[("a/src/a.rs", &long), ("a/src/b.rs", &longer)]);
        let found: Vec<_> = violations(&tree)
            .into_iter()
            .map(|found| found.severity)
            .collect();
        assert_eq!(found, [Severity::Warning, Severity::Failure]);
    }
}
