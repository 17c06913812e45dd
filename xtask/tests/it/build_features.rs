//! `cargo xtask conformance` builds with its own features only, without those that other packages
//! enable.

use std::path::Path;

use xtask::cargo;

#[test]
fn suite_selects_a_kubernetes_version_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages = [
        "tree",
        "--locked",
        "-p",
        "berth-host",
        "-p",
        "berth-conformance",
    ];
    let query = ["-e", "features,no-dev", "-i", "k8s-openapi"];
    let output = cargo::command(&root, &packages).args(query).output();
    let tree = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(tree.contains("k8s-openapi feature \"v1_"), "{tree}");
}
