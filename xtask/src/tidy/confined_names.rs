//! What a crate leans on is named in one module of it.

use super::{Tree, Violation};

/// A library, the only modules that name it, and why.
struct Confinement {
    /// How the identifiers of the library begin.
    prefix: &'static str,
    /// The modules, each a file without its ending; what is below them counts as theirs.
    modules: &'static [&'static str],
    /// Why it is so.
    reason: &'static str,
}

const CONFINEMENTS: [Confinement; 4] = [
    Confinement {
        prefix: "async_nats",
        modules: &["sdk-rust/sdk/src/bus", "conformance/src/bus"],
        reason: "the bus is a port: everything else is tested without it, and another client can \
                 take its place",
    },
    Confinement {
        prefix: "tonic",
        modules: &["sdk-rust/sdk/src/grpc"],
        reason: "gRPC is one more way to say the same, and what is said is decided elsewhere",
    },
    Confinement {
        prefix: "wasmtime",
        modules: &["reference-host/src/engine"],
        reason: "only the engine knows the runtime, so that a release of it is one module's work",
    },
    Confinement {
        prefix: "k8s_openapi",
        modules: &[
            "reference-scheduler/src/store/kube",
            "conformance/src/scheduler/intake/kube",
        ],
        reason: "the same scheduler runs over a directory, and the same suite without a cluster",
    },
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for confinement in &CONFINEMENTS {
        // The chores link neither; they only speak of programs with such names.
        let judged = tree
            .rust()
            .filter(|file| file.is_shipped() && file.crate_dir() != "xtask");
        for file in judged {
            let module = file.path.trim_end_matches(".rs");
            let allowed = confinement
                .modules
                .iter()
                .any(|home| module == *home || module.starts_with(&format!("{home}/")));
            if allowed {
                continue;
            }
            let named = file
                .blanked
                .identifiers()
                .find(|(_, name)| name.starts_with(confinement.prefix));
            if let Some((line, name)) = named {
                let text = format!(
                    "names {name}, which only {} may; {}",
                    confinement.modules.join(" and "),
                    confinement.reason
                );
                found.push(Violation::failure(file.path, line, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_named_only_where_it_lives() {
        let tree = Tree::of(&[
            ("sdk-rust/sdk/src/bus.rs", "//! A.\nuse async_nats::Client;"),
            (
                "sdk-rust/sdk/src/bus/client.rs",
                "//! A.\nuse async_nats::Client;",
            ),
            (
                "sdk-rust/sdk/src/business.rs",
                "//! A.\nuse async_nats::Client;",
            ),
            (
                "sdk-rust/sdk/tests/it/main.rs",
                "//! A.\nuse async_nats::Client;",
            ),
            (
                "reference-host/src/engine/linker.rs",
                "//! A.\nuse wasmtime_wasi::X;",
            ),
            (
                "reference-host/src/ingress.rs",
                "//! Not wasmtime.\nuse wasmtime_wasi_http::X;",
            ),
        ]);
        let paths: Vec<_> = violations(&tree)
            .into_iter()
            .map(|found| found.path)
            .collect();
        assert_eq!(
            paths,
            [
                "sdk-rust/sdk/src/business.rs",
                "reference-host/src/ingress.rs"
            ]
        );
    }
}
