//! The layers of the conformance suite and the symmetry of its two sides.

use super::{Tree, Violation};

/// Source directory of the suite.
const ROOT: &str = "conformance/src/";

/// Modules of the crate from the lowest layer to the highest. A module imports only from layers
/// below its own.
const LAYERS: [&[&str]; 9] = [
    &["spec"],
    &["wire"],
    &["testbed"],
    &["check"],
    &["report"],
    &["host", "scheduler"],
    &["suite"],
    &["models"],
    &["cli"],
];

/// Modules that both sides have.
const BOTH_SIDES: [&str; 7] = [
    "checks",
    "context",
    "monitors",
    "preflight",
    "runner",
    "suite",
    "target",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust().filter(|file| file.path.starts_with(ROOT)) {
        let inner = file.path.strip_prefix(ROOT).unwrap_or_default();
        let module = inner
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some(layer) = layer_of(module) else {
            let text = format!(
                "the module `{module}` is in no layer; add it to LAYERS or move it, so that the \
                 folder listing shows the architecture"
            );
            violations.push(Violation::failure(file.path, 0, text));
            continue;
        };
        let shipped = file
            .lexed
            .code
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default();
        let above = LAYERS.iter().enumerate().flat_map(|(index, names)| {
            let names = names.iter().copied();
            names.filter(move |name| index >= layer && *name != module)
        });
        for name in above {
            if shipped.contains(&format!("crate::{name}::")) {
                let text = format!(
                    "imports from `{name}`, which is not below `{module}`; the two sides share \
                     only the layers below them"
                );
                violations.push(Violation::failure(file.path, 0, text));
            }
        }
    }
    for side in ["host", "scheduler"] {
        let dir = format!("{ROOT}{side}");
        let missing = BOTH_SIDES
            .iter()
            .filter(|name| tree.has(&dir) && !tree.has(&format!("{dir}/{name}.rs")));
        violations.extend(missing.map(|name| {
            let text = format!("`{name}` is missing; both sides have the same modules");
            Violation::failure(&dir, 0, text)
        }));
    }
    violations
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_imports_from_above_and_between_sides() {
        let tree = Tree::of(&[
            (
                "conformance/src/wire/nats.rs",
                "//! N.\nuse crate::spec::roles::Role;",
            ),
            (
                "conformance/src/check/claim.rs",
                "//! C.\nuse crate::host::target::T;",
            ),
            (
                "conformance/src/host/a.rs",
                "//! A.\nuse crate::scheduler::target::T;",
            ),
            ("conformance/src/bench.rs", "//! B."),
            ("conformance/src/lib.rs", "//! L.\nuse crate::host::Suite;"),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| violation.path)
            .collect();
        assert_eq!(
            paths,
            [
                "conformance/src/bench.rs",
                "conformance/src/check/claim.rs",
                "conformance/src/host/a.rs",
            ]
        );
    }

    #[test]
    fn rejects_asymmetric_sides() {
        let mut files = vec![("conformance/src/host", "")];
        files.push(("conformance/src/host/suite.rs", "//! S."));
        let tree = Tree::of(&files);
        assert_eq!(violations(&tree).len(), BOTH_SIDES.len() - 1);
    }
}
