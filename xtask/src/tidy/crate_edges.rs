//! Allowed dependencies between crates; they define the architecture.

use toml::{Table, Value};

use super::{Tree, Violation};

/// Allowed dependencies of one package, among the watched packages and libraries.
struct Edges {
    package: &'static str,
    /// Dependencies of its shipped code.
    shipped: &'static [&'static str],
    /// Further dependencies of its tests.
    tests: &'static [&'static str],
    /// Reason for the restriction.
    reason: &'static str,
}

const EDGES: [Edges; 8] = [
    Edges {
        package: "berth-proto",
        shipped: &[],
        tests: &[],
        reason: "the messages depend on prost, pbjson and serde only",
    },
    Edges {
        package: "berth-sdk",
        shipped: &["berth-proto", "async-nats"],
        tests: &["berth-broker", "berth-conformance"],
        reason: "the SDK is for all hosts and schedulers, not only for the reference ones",
    },
    Edges {
        package: "berthctl",
        shipped: &["berth-proto", "berth-sdk", "berth-broker"],
        tests: &["berth-conformance", "berth-host"],
        reason: "berthctl is a user of the SDK like any other",
    },
    Edges {
        package: "berth-host",
        shipped: &["berth-proto", "berth-sdk", "wasmtime"],
        tests: &["berth-broker", "berth-conformance", "async-nats"],
        reason: "the reference host interacts with other programs only through the protocol",
    },
    Edges {
        package: "berth-scheduler",
        shipped: &["berth-proto", "berth-sdk", "kube"],
        tests: &["berth-broker", "berth-conformance"],
        reason: "the reference scheduler interacts with other programs only through the protocol",
    },
    Edges {
        package: "berth-broker",
        shipped: &[],
        tests: &["async-nats"],
        reason: "the broker must be small enough to embed anywhere",
    },
    Edges {
        package: "berth-conformance",
        shipped: &["berth-broker", "async-nats", "kube"],
        tests: &["wasmtime"],
        reason: "the suite checks bytes; it could not detect a mistake that it shared with the SDK",
    },
    Edges {
        package: "xtask",
        shipped: &[],
        tests: &[],
        reason: "the tasks must work while other crates do not compile",
    },
];

/// Watched dependencies outside the workspace, by name prefix.
const WATCHED: [&str; 3] = ["async-nats", "wasmtime", "kube"];

/// The only dependencies of berth-proto.
const PROTO_DEPENDENCIES: [&str; 4] = ["pbjson", "pbjson-types", "prost", "serde"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, content) in tree.with_extension("toml") {
        if !path.ends_with("/Cargo.toml") {
            continue;
        }
        match content.parse::<Table>() {
            Ok(manifest) => found.extend(check(path, &manifest)),
            Err(error) => found.push(Violation::failure(
                path,
                0,
                format!("is not valid TOML: {error}"),
            )),
        }
    }
    found
}

fn check(path: &str, manifest: &Table) -> Vec<Violation> {
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"));
    let Some(name) = name.and_then(Value::as_str) else {
        return Vec::new();
    };
    let Some(edges) = EDGES.iter().find(|edges| edges.package == name) else {
        let text = format!(
            "{name} has no declared dependencies; add them in xtask/src/tidy and ARCHITECTURE.md"
        );
        return vec![Violation::failure(path, 0, text)];
    };
    let mut found = Vec::new();
    for (section, allowed) in [
        ("dependencies", edges.shipped.to_vec()),
        ("build-dependencies", Vec::new()),
        ("dev-dependencies", [edges.shipped, edges.tests].concat()),
    ] {
        for dependency in names(manifest, section) {
            let watched = dependency.starts_with("berth")
                || WATCHED.iter().any(|edge| belongs_to(dependency, edge));
            let foreign = name == "berth-proto"
                && section == "dependencies"
                && !PROTO_DEPENDENCIES.contains(&dependency);
            if foreign || (watched && !allowed.iter().any(|edge| belongs_to(dependency, edge))) {
                let text = format!(
                    "{name} must not have {dependency} in [{section}]: {}",
                    edges.reason
                );
                found.push(Violation::failure(path, 0, text));
            }
        }
    }
    found
}

/// Whether a dependency belongs to a library, as `wasmtime-wasi` does to `wasmtime`.
fn belongs_to(dependency: &str, edge: &str) -> bool {
    dependency
        .strip_prefix(edge)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn names<'a>(manifest: &'a Table, section: &str) -> Vec<&'a str> {
    let table = |table: &'a Table| table.get(section).and_then(Value::as_table);
    let targets = manifest.get("target").and_then(Value::as_table);
    let by_target = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(by_target)
        .filter_map(table)
        .flat_map(|section| section.keys().map(String::as_str))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, manifest: &str) -> Vec<String> {
        let tree = Tree::of(&[(path, manifest)]);
        violations(&tree)
            .into_iter()
            .map(|found| found.text)
            .collect()
    }

    #[test]
    fn suite_must_not_link_the_sdk_even_in_tests() {
        let found = texts(
            "conformance/Cargo.toml",
            "[package]\nname = 'berth-conformance'\n[dependencies]\nberth-broker.workspace = true\n\
             [dev-dependencies]\nberth-sdk.workspace = true\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("berth-sdk in [dev-dependencies]"),
            "{found:?}"
        );
    }

    #[test]
    fn checks_target_specific_dependencies() {
        let found = texts(
            "sdk-rust/sdk/Cargo.toml",
            "[package]\nname = 'berth-sdk'\n[target.'cfg(unix)'.dependencies]\n\
             wasmtime-wasi = '1'\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn messages_have_no_further_dependencies() {
        let found = texts(
            "sdk-rust/proto/Cargo.toml",
            "[package]\nname = 'berth-proto'\n[dependencies]\nprost = '1'\ntokio = '1'\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn new_crate_must_declare_its_dependencies() {
        let found = texts("new/Cargo.toml", "[package]\nname = 'berth-new'\n");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
