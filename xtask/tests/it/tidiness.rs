//! The repository keeps its own rules.

use std::path::Path;

use xtask::tidy::Severity;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found = xtask::tidy::check(root).unwrap();
    let failures: Vec<String> = found
        .iter()
        .filter(|violation| violation.severity == Severity::Failure)
        .map(ToString::to_string)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
