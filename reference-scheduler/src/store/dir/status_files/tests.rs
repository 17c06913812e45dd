//! Status files are written, loaded, removed and locked.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::Kind;

fn object(namespace: &str, name: &str, annotation: &str) -> Object {
    let value = json!({"metadata": {"namespace": namespace, "name": name, "uid": "u", "annotations": {"a": annotation}},
        "spec": {"components": [{"name": annotation, "image": "i"}]}});
    Object::from_fields(Kind::Workload, value).unwrap()
}

proptest! {
    /// Strings that YAML could misread as other types, and random ones.
    #[test]
    fn loads_object_as_it_was_written(
        text in prop_oneof![
            Just("true".to_owned()), Just("0x1F".to_owned()), Just("null".to_owned()), Just("~".to_owned()),
            Just("1e3".to_owned()), Just("- a\n- b: c\n".to_owned()), Just(" x ".to_owned()), Just("2026-11-23".to_owned()),
            Just("a: b # c".to_owned()), Just("|\n x\n\n".to_owned()), Just("\t".to_owned()), Just("<<".to_owned()),
            Just("off".to_owned()), Just("012".to_owned()), Just("1_000".to_owned()), Just(".inf".to_owned()), ".{0,80}", "(?s).{0,80}",
        ],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let files = StatusFiles::create(folder.path()).unwrap();
        let object = object("default", "a", &text);
        files.put(&object).unwrap();
        prop_assert_eq!(files.load().unwrap(), [object]);
    }
}

#[test]
fn files_are_readable_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    files.put(&object("shop", "a", "x")).unwrap();
    let path = folder.path().join(".berth/shop/workloads/a.yaml");
    let text = fs::read_to_string(path).unwrap();
    assert!(
        text.starts_with(
            "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: a\n"
        ),
        "{text}"
    );
    files.remove(&object("shop", "a", "x").key()).unwrap();
    files.remove(&object("shop", "a", "x").key()).unwrap();
    assert_eq!(files.load().unwrap(), []);
}

#[test]
fn rejects_corrupt_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    files.put(&object("shop", "a", "x")).unwrap();
    let path = files.path(&object("shop", "a", "x").key());
    let valid = fs::read_to_string(&path).unwrap();
    for corrupt in ["", "a: [", &valid.replace("name: a", "name: b")] {
        fs::write(&path, corrupt).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("a.yaml"), "{error}");
    }
}

#[test]
fn lock_is_exclusive() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    let lock = files.try_lock().unwrap();
    assert!(lock.is_some());
    assert!(files.try_lock().unwrap().is_none());
    drop(lock);
    assert!(files.try_lock().unwrap().is_some());
}

#[test]
fn event_log_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    let line = "x".repeat(1 << 19);
    for _ in 0..6 {
        files.append_event(&line).unwrap();
    }
    let bytes: u64 = fs::read_dir(folder.path().join(".berth"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(fs::Metadata::is_file)
        .map(|it| it.len())
        .sum();
    assert!(bytes < 4 << 20, "{bytes}");
}
