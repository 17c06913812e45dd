//! The scanner on directories with changing files.

use std::fs;

use super::*;

const WORKLOAD: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\nmetadata: {name: NAME}\nspec: {}\n";

fn names(scanner: &Scanner) -> Vec<String> {
    let manifests = scanner.manifests();
    manifests
        .objects
        .keys()
        .map(|key| key.name.to_string())
        .collect()
}

/// Scans twice, so that changes take effect.
fn scan_twice(scanner: &mut Scanner) -> bool {
    let first = scanner.scan().unwrap();
    scanner.scan().unwrap() | first
}

fn put(folder: &Path, file: &str, name: &str) {
    fs::write(folder.join(file), WORKLOAD.replace("NAME", name)).unwrap();
}

#[test]
fn change_takes_effect_once_file_is_stable() {
    let folder = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::new(folder.path());
    put(folder.path(), "a.yaml", "a");
    assert!(!scanner.scan().unwrap());
    put(folder.path(), "a.yaml", "longer");
    assert!(
        !scanner.scan().unwrap(),
        "the file changed between two scans"
    );
    assert!(scanner.scan().unwrap());
    assert_eq!(names(&scanner), ["longer"]);
    assert!(!scanner.scan().unwrap());
}

#[test]
fn briefly_missing_file_keeps_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::new(folder.path());
    put(folder.path(), "a.yaml", "a");
    scan_twice(&mut scanner);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(!scanner.scan().unwrap());
    put(folder.path(), "a.yaml", "a");
    assert!(!scanner.scan().unwrap());
    assert_eq!(names(&scanner), ["a"]);
    scanner.scan().unwrap();
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(scan_twice(&mut scanner));
    assert_eq!(names(&scanner), Vec::<String>::new());
}

#[test]
fn distinguishes_invalid_from_empty_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::new(folder.path());
    fs::write(folder.path().join("broken.yaml"), "a: [").unwrap();
    fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
    scan_twice(&mut scanner);
    let invalid: Vec<String> = scanner.manifests().invalid_files.into_iter().collect();
    assert_eq!(invalid, ["broken.yaml"]);
}

#[test]
fn scans_subdirectories_and_skips_other_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("shop/.git")).unwrap();
    put(folder.path(), "shop/b.yml", "b");
    put(folder.path(), "shop/.git/c.yaml", "c");
    put(folder.path(), "shop/d.txt", "d");
    put(folder.path(), ".e.yaml", "e");
    let mut scanner = Scanner::new(folder.path());
    scan_twice(&mut scanner);
    assert_eq!(names(&scanner), ["b"]);
}

#[test]
fn first_of_two_manifests_with_same_name_takes_precedence() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "b.yaml", "x");
    put(folder.path(), "a.yaml", "x");
    let mut scanner = Scanner::new(folder.path());
    scan_twice(&mut scanner);
    let manifests = scanner.manifests();
    let origins: Vec<&str> = manifests
        .objects
        .values()
        .map(|(_, origin)| origin.as_str())
        .collect();
    assert_eq!(origins, ["a.yaml"]);
}

#[test]
fn missing_directory_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("manifests");
    fs::create_dir(&root).unwrap();
    put(&root, "a.yaml", "a");
    let mut scanner = Scanner::new(&root);
    scan_twice(&mut scanner);
    fs::rename(&root, folder.path().join("elsewhere")).unwrap();
    assert!(scanner.scan().is_err());
    assert!(scanner.scan().is_err());
    assert_eq!(names(&scanner), ["a"]);
}
