//! No file or module has a name that says nothing.

use super::{Tree, Violation};

/// Names that collect everything, because they exclude nothing.
const EMPTY_NAMES: [&str; 10] = [
    "common", "helper", "helpers", "manager", "managers", "misc", "mod", "types", "util", "utils",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter_map(|file| {
            let named = file.path.trim_end_matches(".rs").split('/').find(|part| {
                EMPTY_NAMES.contains(part) || part.ends_with("_utils") || part.ends_with("_helpers")
            })?;
            let text = match named {
                "mod" => "is a mod.rs; write foo.rs beside foo/, because ten open files named \
                          mod.rs name nothing"
                    .to_owned(),
                _ => format!("is named {named:?}; name the one noun that the file is about"),
            };
            Some(Violation::failure(file.path, 0, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_refused() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", "//! A."),
            ("a/src/b/mod.rs", "//! A."),
            ("a/src/types/x.rs", "//! A."),
            ("a/src/modules.rs", "//! A."),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|found| found.path)
            .collect();
        assert_eq!(
            paths,
            ["a/src/b/mod.rs", "a/src/types/x.rs", "a/src/utils.rs"]
        );
    }
}
