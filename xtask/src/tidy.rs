//! The rules of this repository that a program can check; each violation says why the rule is there.

use std::path::Path;

mod blanking;
mod confined_names;
mod crate_edges;
mod document_links;
mod error_sources;
mod file_names;
mod file_openings;
mod file_sizes;
mod function_sizes;
mod ignored_tests;
mod requirement_checks;
mod requirement_prose;
mod subjects;
mod tree;

pub use tree::{Tree, TreeError};

/// Checks every rule.
#[must_use]
pub fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found: Vec<Violation> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    found.sort();
    found
}

/// The rules, each a function of the files alone.
const RULES: [fn(&Tree) -> Vec<Violation>; 12] = [
    confined_names::violations,
    crate_edges::violations,
    document_links::violations,
    error_sources::violations,
    file_names::violations,
    file_openings::violations,
    file_sizes::violations,
    function_sizes::violations,
    ignored_tests::violations,
    requirement_checks::violations,
    requirement_prose::violations,
    subjects::violations,
];

/// Reads the repository and checks it.
///
/// # Errors
///
/// When the files cannot be read.
pub fn check(root: &Path) -> Result<Vec<Violation>, TreeError> {
    Tree::read(root).map(|tree| violations(&tree))
}

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, in the repository.
    pub path: String,
    /// The line, from 1; 0 when it is the file as a whole.
    pub line: usize,
    /// Whether the run fails of it.
    pub severity: Severity,
    /// What is wrong, and why that matters.
    pub text: String,
}

/// What a violation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The run fails.
    Failure,
    /// It is said, and the run goes on.
    Warning,
}

impl Violation {
    fn failure(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            severity: Severity::Failure,
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Failure => "error",
            Severity::Warning => "warning",
        };
        match self.line {
            0 => write!(f, "{severity}: {}: {}", self.path, self.text),
            line => write!(f, "{severity}: {}:{line}: {}", self.path, self.text),
        }
    }
}
