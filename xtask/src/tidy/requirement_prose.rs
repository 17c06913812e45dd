//! The index of the requirements and the prose of the specification say the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Tree, Violation};
use crate::requirement_index::{INDEX_PATH, Index, fold_white_space, is_well_formed_id};

/// Where the pages are.
const SPECIFICATION: &str = "docs/spec";

/// The endings of the files in which an id refers to the index.
const CITING: [&str; 4] = ["md", "rs", "proto", "toml"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let index = match tree.content(INDEX_PATH).map(Index::parse) {
        Some(Ok(index)) => index,
        Some(Err(error)) => {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            return vec![Violation::failure(INDEX_PATH, 0, format!("{error}{cause}"))];
        }
        None => return vec![Violation::failure(INDEX_PATH, 0, "is not there")],
    };
    let mut found = repeated_ids(&index);
    found.extend(absent_sentences(tree, &index));
    found.extend(unknown_ids(tree, &index));
    found
}

fn repeated_ids(index: &Index) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let repeated = index
        .requirements
        .iter()
        .filter(|requirement| !seen.insert(&requirement.id));
    repeated
        .map(|requirement| {
            let text = format!(
                "{} stands twice; an id is given to one sentence, for good",
                requirement.id
            );
            Violation::failure(INDEX_PATH, 0, text)
        })
        .collect()
}

fn absent_sentences(tree: &Tree, index: &Index) -> Vec<Violation> {
    let mut pages: BTreeMap<&str, String> = BTreeMap::new();
    let mut found = Vec::new();
    for requirement in &index.requirements {
        let path = format!("{SPECIFICATION}/{}", requirement.page);
        let Some(content) = tree.content(&path) else {
            let text = format!("{} stands on {path}, which is not there", requirement.id);
            found.push(Violation::failure(INDEX_PATH, 0, text));
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
                    "does not say `**{}**` and then the sentence of the index, word for word: \
                     {:?}; who reads the page and who reads a verdict must read the same",
                    requirement.id, requirement.sentence
                );
                found.push(Violation::failure(&path, 0, text));
            }
            _ => {
                let text = format!("says the sentence of {} twice", requirement.id);
                found.push(Violation::failure(&path, 0, text));
            }
        }
    }
    found
}

fn unknown_ids(tree: &Tree, index: &Index) -> Vec<Violation> {
    let known: BTreeSet<&str> = index
        .requirements
        .iter()
        .map(|requirement| requirement.id.as_str())
        .collect();
    let mut found = Vec::new();
    for (path, content) in CITING.iter().flat_map(|ending| tree.with_ending(ending)) {
        // The tools and the guide speak of ids as such.
        if path.starts_with("xtask/") || path == INDEX_PATH {
            continue;
        }
        for (index, line) in content.lines().enumerate() {
            for id in ids(line).filter(|id| !known.contains(id)) {
                let text = format!("names {id}, which is not in the index");
                found.push(Violation::failure(path, index + 1, text));
            }
        }
    }
    found
}

/// The number that no requirement ever has: an example of an id that is not there.
const NOBODYS_NUMBER: &str = "-999";

/// What looks like an id.
fn ids(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_ascii_alphanumeric() && char != '-')
        .filter(|word| is_well_formed_id(word))
        .filter(|word| !word.ends_with(NOBODYS_NUMBER))
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
            .map(|found| found.text)
            .collect()
    }

    #[test]
    fn a_sentence_stands_behind_its_id_whatever_the_white_space() {
        assert_eq!(
            texts(INDEX, "Text.\n\n**HOST-A-001** A host\nMUST a.\n"),
            [""; 0]
        );
    }

    #[test]
    fn other_words_and_no_words_are_refused() {
        assert_eq!(texts(INDEX, "**HOST-A-001** A host must a.\n").len(), 1);
        assert_eq!(texts(INDEX, "A host MUST a.\n").len(), 1);
    }

    #[test]
    fn an_id_is_unique_and_known() {
        let page = "**HOST-A-001** A host MUST a. See HOST-A-002.\n";
        assert_eq!(
            texts(INDEX, page),
            ["names HOST-A-002, which is not in the index"]
        );
        let twice = format!("{INDEX}{INDEX}");
        assert!(
            texts(&twice, "**HOST-A-001** A host MUST a.")
                .iter()
                .any(|text| text.contains("stands twice"))
        );
    }

    #[test]
    fn an_index_that_cannot_be_read_is_refused() {
        assert_eq!(texts(&INDEX.replace("core", "kernel"), "").len(), 1);
        assert_eq!(texts(&INDEX.replace("HOST-A-001", "A-1"), "").len(), 1);
    }
}
