//! Rules of this repository that a program can check. Each violation includes the reason for the
//! rule.

use std::path::Path;

mod commit_subjects;
mod conformance_layout;
mod crate_edges;
mod doc_openings;
mod document_counts;
mod document_links;
mod error_messages;
mod error_sources;
mod file_names;
mod file_sizes;
mod function_sizes;
mod ignored_tests;
mod import_circles;
mod import_rules;
mod lexer;
mod line_lengths;
mod module_docs;
mod requirement_checks;
mod requirement_prose;
mod subjects;
mod tree;
mod word_list;

pub use tree::{Tree, TreeError};

/// Checks all rules.
#[must_use]
pub fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations: Vec<Violation> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    violations.sort();
    violations
}

/// The rules, as functions of the files alone.
const RULES: [fn(&Tree) -> Vec<Violation>; 20] = [
    commit_subjects::violations,
    conformance_layout::violations,
    crate_edges::violations,
    doc_openings::violations,
    document_counts::violations,
    document_links::violations,
    error_messages::violations,
    error_sources::violations,
    file_names::violations,
    file_sizes::violations,
    function_sizes::violations,
    ignored_tests::violations,
    import_circles::violations,
    import_rules::violations,
    line_lengths::violations,
    module_docs::violations,
    requirement_checks::violations,
    requirement_prose::violations,
    subjects::violations,
    word_list::violations,
];

/// Reads the repository and checks it.
///
/// # Errors
///
/// When the files cannot be read.
pub fn check(root: &Path) -> Result<Vec<Violation>, TreeError> {
    Tree::read(root).map(|tree| violations(&tree))
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path of the file in the repository.
    pub path: String,
    /// Line number from 1, or 0 for the whole file.
    pub line: usize,
    /// Severity of the violation.
    pub severity: Severity,
    /// Description, with the reason for the rule.
    pub text: String,
}

/// Severity of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The run fails.
    Failure,
    /// The run continues.
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
