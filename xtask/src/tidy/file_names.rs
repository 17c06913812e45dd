//! Rejects file and module names that say nothing.

use super::{Tree, Violation};

/// Names that attract unrelated code, because they exclude nothing.
const EMPTY_NAMES: [&str; 10] = [
    "common", "helper", "helpers", "manager", "managers", "misc", "mod", "types", "util", "utils",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter_map(|file| {
            let part = file.path.trim_end_matches(".rs").split('/').find(|part| {
                EMPTY_NAMES.contains(part) || part.ends_with("_utils") || part.ends_with("_helpers")
            })?;
            let text = match part {
                "mod" => "is a mod.rs; use foo.rs beside foo/, so that open files have different \
                          names"
                    .to_owned(),
                _ => format!("has the name {part:?}; name the topic of the file instead"),
            };
            Some(Violation::failure(file.path, 0, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_names_that_say_nothing() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", "//! A."),
            ("a/src/b/mod.rs", "//! A."),
            ("a/src/types/x.rs", "//! A."),
            ("a/src/modules.rs", "//! A."),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| violation.path)
            .collect();
        assert_eq!(
            paths,
            ["a/src/b/mod.rs", "a/src/types/x.rs", "a/src/utils.rs"]
        );
    }
}
