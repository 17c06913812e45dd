//! Every requirement has a check and something that breaks it, or a written reason why not.

use std::collections::BTreeSet;

use super::{Severity, Tree, Violation};
use crate::requirement_index::{Breaks, INDEX_PATH, Index, Requirement, Side};

/// Pages whose checks are being written: what is missing there is warned of, and refused everywhere else.
/// Empty when the suite is whole.
const PAGES_STILL_BEING_CHECKED: &[&str] = &[];

/// One requirement in this many may be excluded.
const EXCLUDED_ONE_IN: usize = 20;

/// So many requirements of each side have to have a check.
const CHECKED_AT_LEAST: usize = 90;

/// Where checks and monitors declare what they cover.
const SUITE: &str = "conformance/src/";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    // An index that cannot be read is the business of another rule.
    let Some(Ok(index)) = tree.content(INDEX_PATH).map(Index::parse) else {
        return Vec::new();
    };
    judge_index(tree, &index, PAGES_STILL_BEING_CHECKED)
}

fn judge_index(tree: &Tree, index: &Index, unfinished: &[&str]) -> Vec<Violation> {
    let covered = covered_items(tree);
    let mut found: Vec<Violation> = index
        .requirements
        .iter()
        .filter(|requirement| !unfinished.contains(&requirement.page.as_str()))
        .flat_map(|requirement| judge(tree, requirement, &covered))
        .map(|text| Violation::failure(INDEX_PATH, 0, text))
        .collect();
    for page in unfinished {
        found.extend(what_is_missing(tree, index, page, &covered));
    }
    for side in [Side::Host, Side::Scheduler] {
        let of_side = || index.requirements.iter().filter(|one| one.side() == side);
        let excluded = of_side().filter(|one| one.excluded.is_some()).count();
        if excluded * EXCLUDED_ONE_IN > of_side().count() {
            let text = format!(
                "excludes {excluded} of {} requirements on a {side:?}; at most one in \
                 {EXCLUDED_ONE_IN}, because a verdict on the rest would not mean much",
                of_side().count()
            );
            found.push(Violation::failure(INDEX_PATH, 0, text));
        }
        let checked = of_side()
            .filter(|one| covered.contains(&one.item_name()))
            .count();
        if checked < CHECKED_AT_LEAST {
            let text = format!(
                "has {checked} requirements on a {side:?} with a check; {CHECKED_AT_LEAST} are \
                 asked for"
            );
            found.push(Violation::failure(INDEX_PATH, 0, text));
        }
    }
    found
}

/// One warning for a page whose checks are being written.
fn what_is_missing(
    tree: &Tree,
    index: &Index,
    page: &str,
    covered: &BTreeSet<String>,
) -> Option<Violation> {
    let of_page = || index.requirements.iter().filter(|one| one.page == page);
    let missing: Vec<&str> = of_page()
        .filter(|requirement| !judge(tree, requirement, covered).is_empty())
        .map(|requirement| requirement.id.as_str())
        .collect();
    let text = if missing.is_empty() {
        "every requirement has its check: take the page from PAGES_STILL_BEING_CHECKED".to_owned()
    } else {
        format!(
            "{} of {} requirements have no check, or nothing that breaks it, yet: {}",
            missing.len(),
            of_page().count(),
            missing.join(" ")
        )
    };
    let path = format!("docs/spec/{page}");
    let severity = Severity::Warning;
    of_page().next().map(|_| Violation {
        path,
        line: 0,
        severity,
        text,
    })
}

fn judge(tree: &Tree, requirement: &Requirement, covered: &BTreeSet<String>) -> Vec<String> {
    let id = &requirement.id;
    let mut found = Vec::new();
    match (
        &requirement.excluded,
        covered.contains(&requirement.item_name()),
    ) {
        (None, false) => found.push(format!(
            "{id} has no check that covers it and no reason in `excluded`; what nobody checks \
             nobody keeps"
        )),
        (Some(_), true) => {
            found.push(format!(
                "{id} is excluded and has a check; remove the reason"
            ));
        }
        _ => {}
    }
    if let Some(breaks) = &requirement.breaks {
        let (name, home) = match (breaks, requirement.side()) {
            (Breaks::Mutant(name), Side::Host) => (name, SUITE),
            (Breaks::Mutant(name), Side::Scheduler) => (name, "conformance/src/scheduler/"),
            (Breaks::Breakage(name), Side::Host) => (name, "reference-host/src/"),
            (Breaks::Breakage(name), Side::Scheduler) => (name, "reference-scheduler/src/"),
        };
        if !is_named(tree, home, name) {
            found.push(format!(
                "{id} is broken by {name:?}, which nothing in {home} is named"
            ));
        }
    } else if requirement.level == "MUST" && requirement.excluded.is_none() {
        found.push(format!(
            "{id} is a MUST and names nothing in `breaks`; a check that nobody has seen fail \
             proves nothing"
        ));
    }
    found
}

/// The items that checks and monitors declare to cover.
fn covered_items(tree: &Tree) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    for file in tree.rust().filter(|file| file.path.starts_with(SUITE)) {
        for (marker, open, close) in DECLARATIONS {
            for (at, _) in file.blanked.code.match_indices(marker) {
                let rest = file
                    .blanked
                    .code
                    .get(at + marker.len()..)
                    .unwrap_or_default();
                let Some((_, list)) = rest.split_once(open) else {
                    continue;
                };
                let inside = list.split(close).next().unwrap_or_default();
                let names = inside.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
                items.extend(
                    names
                        .filter(|name| name.starts_with("HOST_") || name.starts_with("SCHED_"))
                        .map(str::to_owned),
                );
            }
        }
    }
    items
}

/// How coverage is declared: in the table of checks, in a const of a monitor, in its `covers`.
const DECLARATIONS: [(&str, char, char); 3] = [
    ("covers:", '[', ']'),
    ("COVERS:", '=', ';'),
    ("fn covers(", '{', '}'),
];

/// Whether `kebab-case` stands somewhere as a string, or as the name of an enum variant.
fn is_named(tree: &Tree, home: &str, kebab: &str) -> bool {
    let variant: String = kebab.split('-').map(capitalised).collect();
    tree.rust()
        .filter(|file| file.path.starts_with(home))
        .any(|file| {
            file.blanked.strings.contains(kebab)
                || file.blanked.identifiers().any(|(_, name)| name == variant)
        })
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[requirement]]\nid = 'HOST-A-001'\nlevel = 'MUST'\nprofile = 'core'\n\
                         page = 'a.md'\nsentence = 'A host MUST a.'\nwhy = 'w'\norigin = 'o'\n";
    const CHECK: &str = "//! A.\ncheck! { covers: [HOST_A_001], host: Shared }\n";

    fn texts(index: &str, suite: &str) -> Vec<String> {
        let tree = Tree::of(&[(INDEX_PATH, index), ("conformance/src/checks/a.rs", suite)]);
        let found = violations(&tree).into_iter().map(|found| found.text);
        found
            .filter(|text| !text.contains("are asked for"))
            .collect()
    }

    #[test]
    fn a_covered_requirement_with_a_breaker_is_fine() {
        let index = format!("{ENTRY}breaks = 'mutant:does-b'\n");
        assert_eq!(
            texts(&index, &format!("{CHECK}enum M {{ DoesB }}")),
            [""; 0]
        );
    }

    #[test]
    fn a_breaker_has_to_exist() {
        let index = format!("{ENTRY}breaks = 'breakage:does-b'\n");
        let found = texts(&index, &format!("{CHECK}enum M {{ DoesB }}"));
        assert!(
            found[0].contains("nothing in reference-host/src/ is named"),
            "{found:?}"
        );
    }

    #[test]
    fn an_unfinished_page_is_warned_of_in_one_line() {
        let index = Index::parse(&format!("{ENTRY}breaks = 'mutant:does-b'\n")).unwrap();
        let empty = Tree::of(&[]);
        let found = judge_index(&empty, &index, &["a.md"]);
        let warning = found.iter().find(|one| one.path == "docs/spec/a.md");
        let warning = warning.unwrap();
        assert_eq!(warning.severity, Severity::Warning);
        assert!(
            warning.text.starts_with("1 of 1") && warning.text.ends_with("HOST-A-001"),
            "{warning}"
        );
        let failures = found.iter().filter(|one| one.severity == Severity::Failure);
        assert!(
            failures
                .into_iter()
                .all(|one| one.text.contains("are asked for"))
        );
    }

    #[test]
    fn the_breaker_of_a_scheduler_lives_with_the_model_scheduler() {
        let index = ENTRY
            .replace("HOST-A", "SCHED-A")
            .replace("core", "scheduler");
        let index = format!("{index}breaks = 'mutant:does-b'\n");
        let check = "//! A.\ncheck! { covers: [SCHED_A_001] }\nenum M { DoesB }\n";
        let text = texts(&index, check).concat();
        assert!(
            text.contains("nothing in conformance/src/scheduler/"),
            "{text}"
        );
    }

    #[test]
    fn a_must_names_a_breaker() {
        assert!(texts(ENTRY, CHECK)[0].contains("names nothing in `breaks`"));
    }

    #[test]
    fn a_mention_is_no_check() {
        let should = ENTRY.replace("'MUST'", "'SHOULD'");
        let mention = "//! A.\nfn f() { cx.claim(HOST_A_001); } // covers: [HOST_A_001]\n";
        assert!(texts(&should, mention)[0].contains("has no check"));
    }

    #[test]
    fn monitors_declare_what_they_cover() {
        let should = ENTRY.replace("'MUST'", "'SHOULD'");
        let constant = "//! A.\nconst ONE_COVERS: &[&Requirement] = &[&req::HOST_A_001];\n";
        let method = "//! A.\nfn covers(&self) -> &'static [&'static R] { &[&req::HOST_A_001] }\n";
        assert_eq!(texts(&should, constant), [""; 0]);
        assert_eq!(texts(&should, method), [""; 0]);
    }

    #[test]
    fn exclusions_are_few_and_not_stale() {
        let excluded = format!(
            "{}excluded = 'because'\n",
            ENTRY.replace("'MUST'", "'SHOULD'")
        );
        assert!(texts(&excluded, "//! A.")[0].contains("excludes 1 of 1"));
        assert!(
            texts(&excluded, CHECK)
                .iter()
                .any(|text| text.contains("remove the reason"))
        );
    }
}
