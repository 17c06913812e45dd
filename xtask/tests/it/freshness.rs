//! The generated files are up to date with the schema and the index.

use std::path::Path;

#[test]
fn generated_files_are_up_to_date() {
    let stale = xtask::r#gen::stale(&root()).unwrap();
    assert!(stale.is_empty(), "run `cargo xtask gen`: {stale:#?}");
}

#[test]
fn detects_stale_missing_and_stray_files() {
    let copy = tempfile::tempdir().unwrap();
    let proto = "proto/wasmcloud/runtime/v2";
    std::fs::create_dir_all(copy.path().join(proto)).unwrap();
    for entry in std::fs::read_dir(root().join(proto)).unwrap() {
        let path = entry.unwrap().path();
        let to = copy.path().join(proto).join(path.file_name().unwrap());
        std::fs::copy(path, to).unwrap();
    }
    xtask::r#gen::write(copy.path()).unwrap();
    assert_eq!(xtask::r#gen::stale(copy.path()).unwrap(), [""; 0]);

    let generated = copy.path().join("sdk-rust/proto/src/gen");
    std::fs::write(generated.join("stray.rs"), "").unwrap();
    std::fs::write(generated.join("wasmcloud.runtime.v2.rs"), "").unwrap();
    std::fs::remove_file(copy.path().join("conformance/src/spec/schema.rs")).unwrap();
    let stale = xtask::r#gen::stale(copy.path()).unwrap().join("\n");
    for name in [
        "stray.rs: not a generated file",
        "wasmcloud.runtime.v2.rs: out of date",
        "schema.rs: No such file",
    ] {
        assert!(stale.contains(name), "{name} is not in\n{stale}");
    }

    xtask::r#gen::write(copy.path()).unwrap();
    assert_eq!(xtask::r#gen::stale(copy.path()).unwrap(), [""; 0]);
    assert!(!generated.join("stray.rs").exists());
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}
