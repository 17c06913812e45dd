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
    let first = scanner.scan();
    scanner.scan() | first
}

fn put(folder: &Path, file: &str, name: &str) {
    fs::write(folder.join(file), WORKLOAD.replace("NAME", name)).unwrap();
}

#[test]
fn change_takes_effect_once_file_is_stable() {
    let folder = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::new(folder.path());
    put(folder.path(), "a.yaml", "a");
    assert!(!scanner.scan());
    put(folder.path(), "a.yaml", "longer");
    assert!(!scanner.scan(), "the file changed between two scans");
    assert!(scanner.scan());
    assert_eq!(names(&scanner), ["longer"]);
    assert!(!scanner.scan());
}

#[test]
fn briefly_missing_file_keeps_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let mut scanner = Scanner::new(folder.path());
    put(folder.path(), "a.yaml", "a");
    scan_twice(&mut scanner);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(!scanner.scan());
    put(folder.path(), "a.yaml", "a");
    assert!(!scanner.scan());
    assert_eq!(names(&scanner), ["a"]);
    scanner.scan();
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
    let unread: Vec<String> = scanner.manifests().unread_files.into_keys().collect();
    assert_eq!(unread, ["broken.yaml"]);
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
        .map(|manifest| manifest.file.as_str())
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
    assert!(scan_twice(&mut scanner) && scanner.is_root_missing());
    assert!(!scan_twice(&mut scanner), "it is missing, as before");
    assert_eq!(names(&scanner), ["a"]);
    fs::rename(folder.path().join("elsewhere"), &root).unwrap();
    assert!(scan_twice(&mut scanner) && !scanner.is_root_missing());
    assert_eq!(names(&scanner), ["a"]);
}

/// Returns the paths of the problems.
fn problems(scanner: &Scanner) -> Vec<String> {
    scanner.manifests().problems.into_keys().collect()
}

#[test]
fn odd_entries_spoil_only_themselves() {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a", "b", "c"] {
        put(root, &format!("{name}.yaml"), name);
    }
    fs::create_dir_all(root.join("dir.yaml/deep")).unwrap();
    put(root, "dir.yaml/d.yaml", "d");
    symlink("nowhere", root.join("x.yaml")).unwrap();
    symlink(".", root.join("loop")).unwrap();
    symlink("..", root.join("dir.yaml/up")).unwrap();
    symlink("self.yaml", root.join("self.yaml")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("s.yaml")).unwrap();
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9.yaml");
    fs::write(root.join(latin), "a: [").unwrap();
    let big = fs::File::create(root.join("big.yaml")).unwrap();
    big.set_len(2 << 30).unwrap();
    let nested = "d/".repeat(10);
    fs::create_dir_all(root.join(&nested)).unwrap();
    put(root, &format!("{nested}/e.yaml"), "e");
    let mut scanner = Scanner::new(root);
    assert!(scan_twice(&mut scanner));
    assert_eq!(names(&scanner), ["a", "b", "c", "d"]);
    let expected = [
        "big.yaml",
        "caf\u{fffd}.yaml",
        "d/d/d/d/d/d/d/d/d",
        "dir.yaml/up",
        "loop",
        "pipe.yaml",
        "s.yaml",
        "self.yaml",
        "x.yaml",
    ];
    assert_eq!(problems(&scanner), expected);
    assert!(!scan_twice(&mut scanner), "nothing has changed");
}

#[test]
fn unreadable_subdirectory_keeps_its_objects() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (root, team) = (folder.path(), folder.path().join("team-a"));
    fs::create_dir(&team).unwrap();
    put(root, "team-a/a.yaml", "a");
    put(root, "team-b.yaml", "b");
    put(root, "team-a.yaml", "c");
    let mut scanner = Scanner::new(root);
    scan_twice(&mut scanner);
    // A link to itself cannot be followed, even by root, who may list every directory.
    let aside = root.join(".aside");
    fs::rename(&team, &aside).unwrap();
    symlink("team-a", &team).unwrap();
    fs::remove_file(root.join("team-a.yaml")).unwrap();
    put(root, "team-b.yaml", "changed");
    scan_twice(&mut scanner);
    scan_twice(&mut scanner);
    assert_eq!(names(&scanner), ["a", "changed"]);
    assert_eq!(problems(&scanner), ["team-a"]);
    fs::remove_file(&team).unwrap();
    fs::rename(&aside, &team).unwrap();
    put(root, "team-a/a.yaml", "again");
    scan_twice(&mut scanner);
    assert_eq!(
        (names(&scanner), problems(&scanner).len()),
        (vec!["again".into(), "changed".into()], 0)
    );
}

#[test]
fn broken_file_keeps_its_objects_and_references() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: s}}\n",
        WORKLOAD.replace("NAME", "a")
    );
    let path = folder.path().join("a.yaml");
    fs::write(&path, &text).unwrap();
    put(folder.path(), "b.yaml", "a");
    let mut scanner = Scanner::new(folder.path());
    scan_twice(&mut scanner);
    for broken in [&b"a: ["[..], b"\xff\xfe", b"kind: Workload\n"] {
        fs::write(&path, broken).unwrap();
        assert!(scan_twice(&mut scanner));
        let manifests = scanner.manifests();
        assert_eq!(
            (manifests.config_maps.len(), manifests.secrets.len()),
            (1, 1)
        );
        let manifest = manifests.objects.values().next().unwrap();
        assert_eq!(manifest.file, "a.yaml", "no other file takes over");
        assert_eq!(manifest.notice.as_ref().unwrap().reason, "InvalidManifest");
        assert_eq!(manifests.unread_files.len(), 0);
        assert!(manifests.problems.contains_key("a.yaml"));
    }
    fs::write(&path, &text).unwrap();
    assert!(scan_twice(&mut scanner));
    assert_eq!(problems(&scanner), ["b.yaml, line 1, column 1"]);
}

#[test]
fn changed_permissions_are_noticed_and_touches_are_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, b"\xff").unwrap();
    let mut scanner = Scanner::new(folder.path());
    assert!(scan_twice(&mut scanner));
    let before = Listing::of(folder.path()).files;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(Listing::of(folder.path()).files, before);
    fs::write(&path, "a: [").unwrap();
    assert!(scan_twice(&mut scanner));
    let file = fs::File::options().append(true).open(&path).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    file.set_modified(later).unwrap();
    assert!(!scan_twice(&mut scanner), "the content is the same");
}

#[test]
fn first_of_several_definitions_counts_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |file: &str, value: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{A: \"{value}\"}}\n"
        );
        fs::write(folder.path().join(file), text).unwrap();
    };
    let value = |scanner: &Scanner| {
        let secrets = scanner.manifests().secrets;
        let (origin, secret) = secrets.values().next().unwrap();
        let value = String::from_utf8(secret.data["A"].clone()).unwrap();
        (origin.split(',').next().unwrap().to_owned(), value)
    };
    let of = |file: &str, value: &str| (file.to_owned(), value.to_owned());
    let mut scanner = Scanner::new(folder.path());
    // The state after each step is the same for a scanner that starts then.
    let mut check = |expected: (String, String)| {
        scan_twice(&mut scanner);
        assert_eq!(value(&scanner), expected);
        let mut restarted = Scanner::new(folder.path());
        scan_twice(&mut restarted);
        assert_eq!(value(&restarted), expected);
        assert_eq!(problems(&restarted), problems(&scanner));
        problems(&scanner)
    };
    secret("b.yaml", "2");
    assert_eq!(check(of("b.yaml", "2")).len(), 0);
    secret("a.yaml", "1");
    assert_eq!(check(of("a.yaml", "1")), ["b.yaml, line 1, column 1"]);
    secret("b.yaml", "3");
    assert_eq!(check(of("a.yaml", "1")), ["b.yaml, line 1, column 1"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert_eq!(check(of("b.yaml", "3")).len(), 0);
}

#[test]
fn first_document_of_one_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let document = |namespace: &str, label: &str| {
        format!(
            "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: x{namespace}, labels: {{l: {label}}}}}\nspec: {{}}\n"
        )
    };
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let (first, last) = (
        document("", "first"),
        document(", namespace: default", "last"),
    );
    fs::write(
        folder.path().join("a.yaml"),
        format!("{first}---\n{config}---\n{last}"),
    )
    .unwrap();
    let mut scanner = Scanner::new(folder.path());
    scan_twice(&mut scanner);
    let manifests = scanner.manifests();
    let manifest = manifests.objects.values().next().unwrap();
    assert_eq!(manifest.object.metadata().labels["l"], "first");
    let (origin, reason) = manifests.problems.first_key_value().unwrap();
    assert_eq!(origin, "a.yaml, line 10, column 1");
    assert!(
        reason.contains("Workload default/x is passed over: a.yaml, line 1"),
        "{reason}"
    );
}
