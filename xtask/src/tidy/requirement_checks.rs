//! Every requirement must have a check and a fault that violates it, or a documented reason for
//! their absence.

use std::collections::BTreeSet;

use super::{Severity, Tree, Violation};
use crate::requirement_index::{Breaks, INDEX_PATH, Index, Requirement, Side};

/// Pages whose checks are not complete yet: missing checks are warnings there, and errors
/// everywhere else. Empty when the suite is complete.
const INCOMPLETE_PAGES: &[&str] = &[];

/// At most one in this number of requirements may be excluded, for hosts and for schedulers
/// separately.
const EXCLUDED_ONE_IN: usize = 20;

/// Minimum number of checked requirements of each side.
const CHECKED_MIN: usize = 90;

/// Directory of the checks and monitors.
const SUITE_DIR: &str = "conformance/src/";

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    // Another rule reports an invalid index.
    let Some(Ok(index)) = tree.content(INDEX_PATH).map(Index::parse) else {
        return Vec::new();
    };
    check_index(tree, &index, INCOMPLETE_PAGES)
}

fn check_index(tree: &Tree, index: &Index, incomplete: &[&str]) -> Vec<Violation> {
    let covered = covered_items(tree);
    let mut violations: Vec<Violation> = index
        .requirements
        .iter()
        .filter(|requirement| !incomplete.contains(&requirement.page.as_str()))
        .flat_map(|requirement| check(tree, requirement, &covered))
        .map(|text| Violation::failure(INDEX_PATH, 0, text))
        .collect();
    for page in incomplete {
        violations.extend(missing_checks(tree, index, page, &covered));
    }
    for side in [Side::Host, Side::Scheduler] {
        let of_side = || index.requirements.iter().filter(|one| one.side() == side);
        let excluded = of_side().filter(|one| one.excluded.is_some()).count();
        if excluded * EXCLUDED_ONE_IN > of_side().count() {
            let text = format!(
                "excludes {excluded} of {} requirements for a {side:?}; the limit is one in \
                 {EXCLUDED_ONE_IN}, because a verdict on the rest would mean little",
                of_side().count()
            );
            violations.push(Violation::failure(INDEX_PATH, 0, text));
        }
        let checked = of_side()
            .filter(|one| covered.contains(&one.item_name()))
            .count();
        if checked < CHECKED_MIN {
            let text = format!(
                "has {checked} requirements for a {side:?} with a check; the minimum is \
                 {CHECKED_MIN}"
            );
            violations.push(Violation::failure(INDEX_PATH, 0, text));
        }
    }
    violations
}

/// Returns one warning for a page whose checks are not complete.
fn missing_checks(
    tree: &Tree,
    index: &Index,
    page: &str,
    covered: &BTreeSet<String>,
) -> Option<Violation> {
    let of_page = || index.requirements.iter().filter(|one| one.page == page);
    let missing: Vec<&str> = of_page()
        .filter(|requirement| !check(tree, requirement, covered).is_empty())
        .map(|requirement| requirement.id.as_str())
        .collect();
    let text = if missing.is_empty() {
        "every requirement has a check: remove the page from INCOMPLETE_PAGES".to_owned()
    } else {
        format!(
            "{} of {} requirements have no check or no fault yet: {}",
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

fn check(tree: &Tree, requirement: &Requirement, covered: &BTreeSet<String>) -> Vec<String> {
    let id = &requirement.id;
    let mut found = Vec::new();
    match (
        &requirement.excluded,
        covered.contains(&requirement.item_name()),
    ) {
        (None, false) => found.push(format!(
            "{id} has neither a check nor a reason in `excluded`; a requirement that is not \
             checked is not kept"
        )),
        (Some(_), true) => {
            found.push(format!(
                "{id} is excluded but has a check; remove `excluded`"
            ));
        }
        _ => {}
    }
    if let Some(breaks) = &requirement.breaks {
        let (name, dir) = match (breaks, requirement.side()) {
            (Breaks::Mutant(name), Side::Host) => (name, "conformance/src/models/host/"),
            (Breaks::Mutant(name), Side::Scheduler) => (name, "conformance/src/models/scheduler/"),
            (Breaks::Breakage(name), Side::Host) => (name, "reference-host/src/"),
            (Breaks::Breakage(name), Side::Scheduler) => (name, "reference-scheduler/src/"),
        };
        if !is_named(tree, dir, name) {
            found.push(format!(
                "{id} names the fault {name:?}, which does not exist in {dir}"
            ));
        }
    } else if requirement.level == "MUST" && requirement.excluded.is_none() {
        found.push(format!(
            "{id} is a MUST without `breaks`; a check that has never failed proves nothing"
        ));
    }
    found
}

/// Returns the items that checks and monitors declare to cover.
fn covered_items(tree: &Tree) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    for file in tree.rust().filter(|file| file.path.starts_with(SUITE_DIR)) {
        for (marker, open, close) in DECLARATIONS {
            for (at, _) in file.lexed.code.match_indices(marker) {
                let rest = file.lexed.code.get(at + marker.len()..).unwrap_or_default();
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

/// Declarations of coverage: in the table of checks, in a const of a monitor, in its `covers`
/// function.
const DECLARATIONS: [(&str, char, char); 3] = [
    ("covers:", '[', ']'),
    ("COVERS:", '=', ';'),
    ("fn covers(", '{', '}'),
];

/// Whether a file in `dir` contains `kebab` as a string, or as the name of an enum variant.
fn is_named(tree: &Tree, dir: &str, kebab: &str) -> bool {
    let variant: String = kebab.split('-').map(capitalized).collect();
    tree.rust()
        .filter(|file| file.path.starts_with(dir))
        .any(|file| {
            file.lexed.strings.contains(kebab)
                || file.lexed.identifiers().any(|(_, name)| name == variant)
        })
}

fn capitalized(word: &str) -> String {
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
        let tree = Tree::of(&[
            (INDEX_PATH, index),
            ("conformance/src/models/host/a.rs", suite),
        ]);
        let found = violations(&tree).into_iter().map(|found| found.text);
        found
            .filter(|text| !text.contains("the minimum is"))
            .collect()
    }

    #[test]
    fn accepts_covered_requirement_with_fault() {
        let index = format!("{ENTRY}breaks = 'mutant:does-b'\n");
        assert_eq!(
            texts(&index, &format!("{CHECK}enum M {{ DoesB }}")),
            [""; 0]
        );
    }

    #[test]
    fn rejects_unknown_fault() {
        let index = format!("{ENTRY}breaks = 'breakage:does-b'\n");
        let found = texts(&index, &format!("{CHECK}enum M {{ DoesB }}"));
        assert!(
            found[0].contains("does not exist in reference-host/src/"),
            "{found:?}"
        );
    }

    #[test]
    fn incomplete_page_is_one_warning() {
        let index = Index::parse(&format!("{ENTRY}breaks = 'mutant:does-b'\n")).unwrap();
        let empty = Tree::of(&[]);
        let found = check_index(&empty, &index, &["a.md"]);
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
                .all(|one| one.text.contains("the minimum is"))
        );
    }

    #[test]
    fn scheduler_mutant_must_be_in_the_model_scheduler() {
        let index = ENTRY
            .replace("HOST-A", "SCHED-A")
            .replace("core", "scheduler");
        let index = format!("{index}breaks = 'mutant:does-b'\n");
        let check = "//! A.\ncheck! { covers: [SCHED_A_001] }\nenum M { DoesB }\n";
        let text = texts(&index, check).concat();
        assert!(
            text.contains("does not exist in conformance/src/models/scheduler/"),
            "{text}"
        );
    }

    #[test]
    fn must_needs_a_fault() {
        assert!(texts(ENTRY, CHECK)[0].contains("is a MUST without `breaks`"));
    }

    #[test]
    fn mention_is_not_coverage() {
        let should = ENTRY.replace("'MUST'", "'SHOULD'");
        let mention = "//! A.\nfn f() { cx.claim(HOST_A_001); } // covers: [HOST_A_001]\n";
        assert!(texts(&should, mention)[0].contains("has neither a check"));
    }

    #[test]
    fn reads_coverage_of_monitors() {
        let should = ENTRY.replace("'MUST'", "'SHOULD'");
        let constant = "//! A.\nconst ONE_COVERS: &[&Requirement] = &[&req::HOST_A_001];\n";
        let method = "//! A.\nfn covers(&self) -> &'static [&'static R] { &[&req::HOST_A_001] }\n";
        assert_eq!(texts(&should, constant), [""; 0]);
        assert_eq!(texts(&should, method), [""; 0]);
    }

    #[test]
    fn limits_exclusions_and_rejects_stale_ones() {
        let excluded = format!(
            "{}excluded = 'because'\n",
            ENTRY.replace("'MUST'", "'SHOULD'")
        );
        assert!(texts(&excluded, "//! A.")[0].contains("excludes 1 of 1"));
        assert!(
            texts(&excluded, CHECK)
                .iter()
                .any(|text| text.contains("remove `excluded`"))
        );
    }
}
