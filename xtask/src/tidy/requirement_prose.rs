//! The requirement index and the specification must contain the same sentences.

use std::collections::{BTreeMap, BTreeSet};

use super::{Tree, Violation};
use crate::requirement_index::{INDEX_PATH, Index, fold_white_space, is_well_formed_id};

/// Directory of the pages.
const SPECIFICATION_DIR: &str = "docs/spec";

/// Extensions of the files that cite requirement ids.
const CITING_EXTENSIONS: [&str; 4] = ["md", "rs", "proto", "toml"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let index = match tree.content(INDEX_PATH).map(Index::parse) {
        Some(Ok(index)) => index,
        Some(Err(error)) => {
            let source = std::error::Error::source(&error)
                .map_or_else(String::new, |source| format!(": {source}"));
            return vec![Violation::failure(
                INDEX_PATH,
                0,
                format!("{error}{source}"),
            )];
        }
        None => return vec![Violation::failure(INDEX_PATH, 0, "does not exist")],
    };
    let mut violations = duplicate_ids(&index);
    violations.extend(missing_sentences(tree, &index));
    violations.extend(unknown_ids(tree, &index));
    violations
}

fn duplicate_ids(index: &Index) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let duplicates = index
        .requirements
        .iter()
        .filter(|requirement| !seen.insert(&requirement.id));
    duplicates
        .map(|requirement| {
            let text = format!(
                "duplicate id {}; an id belongs to one sentence forever",
                requirement.id
            );
            Violation::failure(INDEX_PATH, 0, text)
        })
        .collect()
}

fn missing_sentences(tree: &Tree, index: &Index) -> Vec<Violation> {
    let mut pages: BTreeMap<&str, String> = BTreeMap::new();
    let mut violations = Vec::new();
    for requirement in &index.requirements {
        let path = format!("{SPECIFICATION_DIR}/{}", requirement.page);
        let Some(content) = tree.content(&path) else {
            let text = format!(
                "{} refers to page {path}, which does not exist",
                requirement.id
            );
            violations.push(Violation::failure(INDEX_PATH, 0, text));
            continue;
        };
        let page = pages
            .entry(&requirement.page)
            .or_insert_with(|| fold_white_space(content));
        let paragraph = format!("**{}** {}", requirement.id, requirement.sentence);
        match page.matches(paragraph.as_str()).count() {
            1 => {}
            0 => {
                let text = format!(
                    "does not contain `**{}**` followed by the exact sentence of the index: {:?}; \
                     the specification and the verdicts must agree",
                    requirement.id, requirement.sentence
                );
                violations.push(Violation::failure(&path, 0, text));
            }
            _ => {
                let text = format!("contains the sentence of {} twice", requirement.id);
                violations.push(Violation::failure(&path, 0, text));
            }
        }
    }
    violations
}

fn unknown_ids(tree: &Tree, index: &Index) -> Vec<Violation> {
    let known: BTreeSet<&str> = index
        .requirements
        .iter()
        .map(|requirement| requirement.id.as_str())
        .collect();
    let mut violations = Vec::new();
    for (path, content) in CITING_EXTENSIONS
        .iter()
        .flat_map(|extension| tree.with_extension(extension))
    {
        // xtask uses arbitrary ids as examples.
        if path.starts_with("xtask/") || path == INDEX_PATH {
            continue;
        }
        for (index, line) in content.lines().enumerate() {
            for id in ids(line).filter(|id| !known.contains(id)) {
                let text = format!("cites {id}, which is not in the index");
                violations.push(Violation::failure(path, index + 1, text));
            }
        }
    }
    violations
}

/// Number of ids that are examples; no requirement has it.
const EXAMPLE_NUMBER: &str = "-999";

/// Returns the words of a line that have the form of an id.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_ascii_alphanumeric() && char != '-')
        .filter(|word| is_well_formed_id(word))
        .filter(|word| !word.ends_with(EXAMPLE_NUMBER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "[[requirement]]\nid = 'HOST-A-001'\nlevel = 'MUST'\nprofile = 'core'\n\
                         page = 'a.md'\nsentence = 'A host MUST a.'\nwhy = 'w'\norigin = 'o'\n";

    fn texts(index: &str, page: &str) -> Vec<String> {
        let tree = Tree::of(&[(INDEX_PATH, index), ("docs/spec/a.md", page)]);
        violations(&tree)
            .into_iter()
            .map(|violation| violation.text)
            .collect()
    }

    #[test]
    fn accepts_sentence_after_its_id_with_any_white_space() {
        assert_eq!(
            texts(INDEX, "Text.\n\n**HOST-A-001** A host\nMUST a.\n"),
            [""; 0]
        );
    }

    #[test]
    fn rejects_different_or_missing_sentence() {
        assert_eq!(texts(INDEX, "**HOST-A-001** A host must a.\n").len(), 1);
        assert_eq!(texts(INDEX, "A host MUST a.\n").len(), 1);
    }

    #[test]
    fn rejects_unknown_and_duplicate_ids() {
        let page = "**HOST-A-001** A host MUST a. See HOST-A-002.\n";
        assert_eq!(
            texts(INDEX, page),
            ["cites HOST-A-002, which is not in the index"]
        );
        let twice = format!("{INDEX}{INDEX}");
        assert!(
            texts(&twice, "**HOST-A-001** A host MUST a.")
                .iter()
                .any(|text| text.contains("duplicate id"))
        );
    }

    #[test]
    fn rejects_invalid_index() {
        assert_eq!(texts(&INDEX.replace("core", "kernel"), "").len(), 1);
        assert_eq!(texts(&INDEX.replace("HOST-A-001", "A-1"), "").len(), 1);
    }
}
