//! The counts in the README are those of the index of requirements.

use std::collections::BTreeSet;

use super::{Tree, Violation};
use crate::requirement_index::{INDEX_PATH, Index, Side};

/// The document with the counts.
const README: &str = "README.md";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let Some(Ok(index)) = tree.content(INDEX_PATH).map(Index::parse) else {
        return Vec::new();
    };
    let readme = tree.content(README).unwrap_or_default();
    [(Side::Host, "host"), (Side::Scheduler, "scheduler")]
        .into_iter()
        .map(|(side, name)| {
            let of_side = index.requirements.iter().filter(|one| one.side() == side);
            let profiles: BTreeSet<&str> =
                of_side.clone().map(|one| one.profile.as_str()).collect();
            format!(
                "{} {name} requirements in {} profiles",
                of_side.count(),
                profiles.len()
            )
        })
        .filter(|count| !readme.contains(count))
        .map(|count| {
            let text = format!("does not contain {count:?}, the counts in the index");
            Violation::failure(README, 0, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_stale_counts() {
        let entry = "[[requirement]]\nid = 'HOST-A-001'\nlevel = 'MUST'\nprofile = 'core'\n\
                     page = 'a.md'\nsentence = 'A host MUST a.'\nwhy = 'w'\norigin = 'o'\n";
        let readme = "1 host requirements in 1 profiles, 3 scheduler requirements in 1 profiles";
        let tree = Tree::of(&[(INDEX_PATH, entry), (README, readme)]);
        let found = violations(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].text.contains("0 scheduler requirements"),
            "{found:?}"
        );
    }
}
