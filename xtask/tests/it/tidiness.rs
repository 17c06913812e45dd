//! The repository satisfies its own rules.

use std::path::Path;

use xtask::tidy::Severity;

#[test]
fn repository_has_no_violations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let violations = xtask::tidy::check(root).unwrap();
    let failures: Vec<String> = violations
        .iter()
        .filter(|violation| violation.severity == Severity::Failure)
        .map(ToString::to_string)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
