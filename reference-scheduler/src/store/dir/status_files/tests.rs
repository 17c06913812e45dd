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
        prop_assert_eq!(files.load().unwrap().objects, [object]);
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
    assert_eq!(files.load().unwrap().objects, []);
}

/// Loads the files and returns the names of the objects, and the problems.
fn load(files: &StatusFiles) -> (Vec<String>, BTreeMap<String, String>) {
    let loaded = files.load().unwrap();
    let names = loaded.objects.iter().map(|it| it.metadata().name.clone());
    (names.collect(), loaded.problems)
}

#[test]
fn sets_corrupt_files_aside() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    files.put(&object("shop", "a", "x")).unwrap();
    files.put(&object("shop", "b", "x")).unwrap();
    let path = files.path(&object("shop", "a", "x").key());
    let valid = fs::read_to_string(&path).unwrap();
    let half = &valid[..valid.len() / 2];
    let invalid = fs::read_dir(folder.path().join(".berth/.invalid"));
    assert!(invalid.is_err());
    for (number, corrupt) in ["", "a: [", half, &"\0".repeat(4096)]
        .into_iter()
        .enumerate()
    {
        fs::write(&path, corrupt).unwrap();
        let (names, problems) = load(&files);
        assert_eq!(names, ["b"]);
        let problem = &problems[".berth/shop/workloads/a.yaml"];
        assert!(
            problem.contains(".berth/.invalid/shop_workloads_a.yaml"),
            "{problem}"
        );
        assert!(!path.exists());
        let invalid = fs::read_dir(folder.path().join(".berth/.invalid")).unwrap();
        assert_eq!(invalid.count(), number + 1);
        assert_eq!(load(&files), (vec!["b".to_owned()], BTreeMap::new()));
    }
}

#[test]
fn leaves_files_of_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    files.put(&object("shop", "a", "x")).unwrap();
    let workloads = folder.path().join(".berth/shop/workloads");
    for name in [".a.yaml.swp", "a.yaml~", "a.yaml.tmp1234", "README"] {
        fs::write(workloads.join(name), "torn").unwrap();
    }
    fs::create_dir(workloads.join("x.yaml")).unwrap();
    fs::copy(workloads.join("a.yaml"), workloads.join("copy.yaml")).unwrap();
    fs::create_dir(folder.path().join(".berth/shop/laterkinds")).unwrap();
    fs::write(folder.path().join(".berth/README"), "").unwrap();
    fs::write(folder.path().join(".berth/events.log"), "").unwrap();
    let (names, problems) = load(&files);
    assert_eq!(names, ["a"]);
    let named: Vec<&str> = problems.keys().map(String::as_str).collect();
    assert_eq!(
        named,
        [
            ".berth/README",
            ".berth/shop/laterkinds",
            ".berth/shop/workloads/.a.yaml.swp",
            ".berth/shop/workloads/README",
            ".berth/shop/workloads/a.yaml.tmp1234",
            ".berth/shop/workloads/a.yaml~",
            ".berth/shop/workloads/copy.yaml",
            ".berth/shop/workloads/x.yaml",
        ]
    );
    assert_eq!(load(&files), (names, problems), "nothing was moved");
}

#[test]
fn long_names_fit_in_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    let mut names: Vec<String> = [250, 251, 253].map(|bytes| "a".repeat(bytes)).into();
    names.push(format!("{}b", "a".repeat(252)));
    for name in &names {
        files.put(&object("shop", name, "x")).unwrap();
    }
    let (mut loaded, problems) = load(&files);
    loaded.sort();
    names.sort();
    assert_eq!((loaded, problems.len()), (names.clone(), 0));
    for name in &names {
        files.remove(&object("shop", name, "x").key()).unwrap();
    }
    assert_eq!(load(&files).0.len(), 0);
}

#[test]
fn unusable_directory_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".berth"), "").unwrap();
    let error = StatusFiles::create(folder.path()).unwrap_err().to_string();
    assert!(error.contains(".berth"), "{error}");
}

#[test]
fn failed_write_leaves_old_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    let old = object("shop", "a", "x");
    files.put(&old).unwrap();
    // A directory in place of the temporary file, as if the disk were full.
    let temporary = files.temporary_file();
    fs::remove_file(&temporary).ok();
    fs::create_dir(&temporary).unwrap();
    let error = files
        .put(&object("shop", "a", "y"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("a.yaml"), "{error}");
    assert_eq!(files.load().unwrap().objects, [old]);
    fs::remove_dir(&temporary).unwrap();
    files.put(&object("shop", "a", "y")).unwrap();
}

#[test]
fn event_log_continues_after_half_line() {
    let folder = tempfile::tempdir().unwrap();
    let files = StatusFiles::create(folder.path()).unwrap();
    let log = folder.path().join(".berth/events.log");
    fs::write(&log, "half").unwrap();
    files.append_event("next").unwrap();
    files.append_event("last").unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "half\nnext\nlast\n");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let error = files.append_event("lost").unwrap_err().to_string();
    assert!(error.contains("events.log"), "{error}");
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
