//! Files in, wishes out.

use std::fs;

use super::*;

const WORKLOAD: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\nmetadata: {name: NAME}\nspec: {}\n";

fn names(looks: &Looks) -> Vec<String> {
    let wanted = looks.wanted();
    wanted
        .objects
        .keys()
        .map(|key| key.name.to_string())
        .collect()
}

/// Looks until nothing is pending: twice for what has just changed.
fn settle(looks: &mut Looks) -> bool {
    let first = looks.look().unwrap();
    looks.look().unwrap() | first
}

fn put(folder: &Path, file: &str, name: &str) {
    fs::write(folder.join(file), WORKLOAD.replace("NAME", name)).unwrap();
}

#[test]
fn a_file_counts_when_it_is_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut looks = Looks::at(folder.path());
    put(folder.path(), "a.yaml", "a");
    assert!(!looks.look().unwrap());
    put(folder.path(), "a.yaml", "longer");
    assert!(!looks.look().unwrap(), "it has changed between two looks");
    assert!(looks.look().unwrap());
    assert_eq!(names(&looks), ["longer"]);
    assert!(!looks.look().unwrap());
}

#[test]
fn a_file_that_is_away_for_a_moment_is_not_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut looks = Looks::at(folder.path());
    put(folder.path(), "a.yaml", "a");
    settle(&mut looks);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(!looks.look().unwrap());
    put(folder.path(), "a.yaml", "a");
    assert!(!looks.look().unwrap());
    assert_eq!(names(&looks), ["a"]);
    looks.look().unwrap();
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(settle(&mut looks));
    assert_eq!(names(&looks), Vec::<String>::new());
}

#[test]
fn a_broken_file_is_told_from_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut looks = Looks::at(folder.path());
    fs::write(folder.path().join("broken.yaml"), "a: [").unwrap();
    fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
    settle(&mut looks);
    let broken: Vec<String> = looks.wanted().broken.into_iter().collect();
    assert_eq!(broken, ["broken.yaml"]);
}

#[test]
fn folders_are_entered_and_other_files_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("shop/.git")).unwrap();
    put(folder.path(), "shop/b.yml", "b");
    put(folder.path(), "shop/.git/c.yaml", "c");
    put(folder.path(), "shop/d.txt", "d");
    put(folder.path(), ".e.yaml", "e");
    let mut looks = Looks::at(folder.path());
    settle(&mut looks);
    assert_eq!(names(&looks), ["b"]);
}

#[test]
fn of_two_manifests_of_one_name_the_first_counts() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "b.yaml", "x");
    put(folder.path(), "a.yaml", "x");
    let mut looks = Looks::at(folder.path());
    settle(&mut looks);
    let wanted = looks.wanted();
    let origins: Vec<&str> = wanted
        .objects
        .values()
        .map(|(_, origin)| origin.as_str())
        .collect();
    assert_eq!(origins, ["a.yaml"]);
}

#[test]
fn a_directory_that_is_away_wants_nothing_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("manifests");
    fs::create_dir(&root).unwrap();
    put(&root, "a.yaml", "a");
    let mut looks = Looks::at(&root);
    settle(&mut looks);
    fs::rename(&root, folder.path().join("elsewhere")).unwrap();
    assert!(looks.look().is_err());
    assert!(looks.look().is_err());
    assert_eq!(names(&looks), ["a"]);
}
