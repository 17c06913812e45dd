//! Import rules: a library is used only in certain modules.

use super::{Tree, Violation};

/// A library, the only modules that may use it, and the reason.
struct ImportRule {
    /// Prefix of the library's identifiers.
    prefix: &'static str,
    /// Module files without extension; their submodules are included.
    modules: &'static [&'static str],
    /// Reason for the rule.
    reason: &'static str,
}

const RULES: [ImportRule; 4] = [
    ImportRule {
        prefix: "async_nats",
        modules: &["sdk-rust/sdk/src/bus", "conformance/src/wire/nats"],
        reason: "everything else is tested without NATS, and another client could replace it",
    },
    ImportRule {
        prefix: "tonic",
        modules: &["sdk-rust/sdk/src/grpc"],
        reason: "gRPC is only another transport; other modules decide what is sent",
    },
    ImportRule {
        prefix: "wasmtime",
        modules: &["reference-host/src/engine"],
        reason: "a new release of the runtime then affects one module only",
    },
    ImportRule {
        prefix: "k8s_openapi",
        modules: &[
            "reference-scheduler/src/store/kube",
            "conformance/src/scheduler/intake/kube",
        ],
        reason: "the same scheduler runs with a directory, and the same suite without a cluster",
    },
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for rule in &RULES {
        // xtask links none of these libraries; it only mentions programs with such names.
        let checked = tree
            .rust()
            .filter(|file| file.is_shipped() && file.crate_dir() != "xtask");
        for file in checked {
            let module = file.path.trim_end_matches(".rs");
            let allowed = rule
                .modules
                .iter()
                .any(|allowed| module == *allowed || module.starts_with(&format!("{allowed}/")));
            if allowed {
                continue;
            }
            let used = file
                .lexed
                .identifiers()
                .find(|(_, name)| name.starts_with(rule.prefix));
            if let Some((line, name)) = used {
                let text = format!(
                    "uses {name}, which only {} may use: {}",
                    rule.modules.join(" and "),
                    rule.reason
                );
                violations.push(Violation::failure(file.path, line, text));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_use_of_library_outside_its_modules() {
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
            .map(|violation| violation.path)
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
