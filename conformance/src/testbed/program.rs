//! Lookup of programs, and placeholders in their command lines.

use std::path::PathBuf;

/// Finds a program: in an environment variable, beside this executable, or on the PATH.
pub fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Some(PathBuf::from(path));
    }
    find_beside_executable(name).or_else(|| find_on_path(name))
}

fn find_beside_executable(name: &str) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    // A test binary is one level deeper than the programs that it tests.
    executable
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Finds a program on the PATH.
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Replaces `{NAME}` placeholders in a text.
pub fn expand_placeholders(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}
