//! What `cargo xtask conformance` builds has all that it needs, without the features that the rest of the repository turns on.

use std::path::Path;

use xtask::cargo;

#[test]
fn the_suite_chooses_a_version_of_kubernetes_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages = [
        "tree",
        "--locked",
        "-p",
        "berth-host",
        "-p",
        "berth-conformance",
    ];
    let of_whom = ["-e", "features,no-dev", "-i", "k8s-openapi"];
    let output = cargo::command(&root, &packages).args(of_whom).output();
    let tree = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(tree.contains("k8s-openapi feature \"v1_"), "{tree}");
}
