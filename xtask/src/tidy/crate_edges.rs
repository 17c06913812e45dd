//! Which crate may lean on which: the absences are the architecture.

use toml::{Table, Value};

use super::{Tree, Violation};

/// What one package may lean on, of the packages and libraries whose edges matter.
struct Edges {
    package: &'static str,
    /// In what it ships.
    shipped: &'static [&'static str],
    /// In its tests, besides.
    tests: &'static [&'static str],
    /// Why nothing else.
    reason: &'static str,
}

const EDGES: [Edges; 8] = [
    Edges {
        package: "berth-proto",
        shipped: &[],
        tests: &[],
        reason: "the messages drag in nothing but prost, pbjson and serde",
    },
    Edges {
        package: "berth-sdk",
        shipped: &["berth-proto", "async-nats"],
        tests: &["berth-broker", "berth-conformance"],
        reason: "the SDK is for other people's hosts and schedulers, so it knows none of ours",
    },
    Edges {
        package: "berthctl",
        shipped: &["berth-proto", "berth-sdk", "berth-broker"],
        tests: &["berth-conformance", "berth-host"],
        reason: "berthctl is a customer of the SDK like any other",
    },
    Edges {
        package: "berth-host",
        shipped: &["berth-proto", "berth-sdk", "wasmtime"],
        tests: &["berth-broker", "berth-conformance", "async-nats"],
        reason: "the reference host meets schedulers and the suite on the bus only",
    },
    Edges {
        package: "berth-scheduler",
        shipped: &["berth-proto", "berth-sdk", "kube"],
        tests: &["berth-broker", "berth-conformance"],
        reason: "the reference scheduler meets hosts and the suite on the bus only",
    },
    Edges {
        package: "berth-broker",
        shipped: &[],
        tests: &["async-nats"],
        reason: "the broker is small enough to be embedded anywhere",
    },
    Edges {
        package: "berth-conformance",
        shipped: &["berth-broker", "async-nats", "kube"],
        tests: &["wasmtime"],
        reason: "the suite judges bytes: a mistake that it shared with the SDK it could not see",
    },
    Edges {
        package: "xtask",
        shipped: &[],
        tests: &[],
        reason: "the chores work while everything else is broken",
    },
];

/// Dependencies outside the workspace whose edges matter, by how their names begin.
const WATCHED: [&str; 3] = ["async-nats", "wasmtime", "kube"];

/// The only dependencies of berth-proto.
const PROTO_DEPENDENCIES: [&str; 4] = ["pbjson", "pbjson-types", "prost", "serde"];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, content) in tree.with_ending("toml") {
        if !path.ends_with("/Cargo.toml") {
            continue;
        }
        match content.parse::<Table>() {
            Ok(manifest) => found.extend(judge(path, &manifest)),
            Err(error) => found.push(Violation::failure(path, 0, format!("is no TOML: {error}"))),
        }
    }
    found
}

fn judge(path: &str, manifest: &Table) -> Vec<Violation> {
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"));
    let Some(name) = name.and_then(Value::as_str) else {
        return Vec::new();
    };
    let Some(edges) = EDGES.iter().find(|edges| edges.package == name) else {
        let text =
            format!("{name} has no edges declared; add them in xtask/src/tidy and ARCHITECTURE.md");
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
                || WATCHED.iter().any(|edge| is_of(dependency, edge));
            let foreign = name == "berth-proto"
                && section == "dependencies"
                && !PROTO_DEPENDENCIES.contains(&dependency);
            if foreign || (watched && !allowed.iter().any(|edge| is_of(dependency, edge))) {
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

/// `wasmtime-wasi` is of `wasmtime`.
fn is_of(dependency: &str, edge: &str) -> bool {
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
    fn the_suite_may_not_link_the_sdk_even_in_tests() {
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
    fn a_library_belongs_to_its_crate_also_under_a_target() {
        let found = texts(
            "sdk-rust/sdk/Cargo.toml",
            "[package]\nname = 'berth-sdk'\n[target.'cfg(unix)'.dependencies]\nwasmtime-wasi = '1'\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn the_messages_drag_in_nothing() {
        let found = texts(
            "sdk-rust/proto/Cargo.toml",
            "[package]\nname = 'berth-proto'\n[dependencies]\nprost = '1'\ntokio = '1'\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_new_crate_has_to_declare_its_edges() {
        let found = texts("new/Cargo.toml", "[package]\nname = 'berth-new'\n");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
