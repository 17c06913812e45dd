//! The text files of the repository, read once, so that rules need no file access.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lexer::Lexed;

/// Directories without hand-written files.
const SKIPPED: [&str; 9] = [
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "berth-report",
    "node_modules",
    "target",
];

/// Extensions of the files that the rules check.
const EXTENSIONS: [&str; 11] = [
    "go", "md", "proto", "py", "rs", "toml", "tpl", "txt", "wat", "wit", "yaml",
];

/// Parts of the paths of files that a tool writes.
const GENERATED: [&str; 5] = [
    ".pb.go",
    "/_gen/",
    "conformance/src/spec/requirements.rs",
    "requirements-dev.txt",
    "sdk-rust/proto/src/gen/",
];

/// The first commit whose subject the rules check is the one after this.
const RULES_SINCE: &str = "d6933cbd1ee31bbaf4d1a1ea299829d8ec0daef7";

/// The files of the repository, by path, with `/` as separator.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Text>,
    /// Possible link targets: all files and directories.
    paths: std::collections::BTreeSet<String>,
    commit_subjects: Vec<String>,
}

/// A file; Rust files are lexed.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) content: String,
    pub(crate) lexed: Option<Lexed>,
}

impl Tree {
    /// Reads the files below `root`.
    ///
    /// # Errors
    ///
    /// When a directory or a file cannot be read.
    pub fn read(root: &Path) -> Result<Self, TreeError> {
        let mut tree = Self {
            commit_subjects: commit_subjects(root),
            ..Self::default()
        };
        let mut pending = vec![root.to_path_buf()];
        while let Some(dir) = pending.pop() {
            let error = |source| TreeError {
                path: dir.clone(),
                source,
            };
            for entry in std::fs::read_dir(&dir).map_err(error)? {
                let path = entry.map_err(error)?.path();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if SKIPPED.contains(&name.as_str()) {
                    continue;
                }
                let relative = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                tree.paths.insert(relative.clone());
                if path.is_dir() {
                    pending.push(path);
                } else if EXTENSIONS
                    .iter()
                    .any(|extension| name.ends_with(&format!(".{extension}")))
                {
                    match std::fs::read_to_string(&path) {
                        Ok(content) => tree.insert(&relative, content),
                        // A generator removed the file after the directory was listed.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(source) => return Err(TreeError { path, source }),
                    }
                }
            }
        }
        Ok(tree)
    }

    /// Returns a tree of these files, for tests of the rules.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, content) in files {
            tree.paths.insert((*path).to_owned());
            tree.insert(path, (*content).to_owned());
        }
        tree
    }

    fn insert(&mut self, path: &str, content: String) {
        let lexed = path.ends_with(".rs").then(|| Lexed::new(&content));
        self.files.insert(path.to_owned(), Text { content, lexed });
    }

    /// Returns the content of one file.
    pub(crate) fn content(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|text| text.content.as_str())
    }

    /// Whether a file or directory exists at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Returns the files with this extension, sorted by path.
    pub(crate) fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let suffix = format!(".{extension}");
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(&suffix))
            .map(|(path, text)| (path.as_str(), text.content.as_str()))
    }

    /// Returns the files with this extension that no tool writes, sorted by path.
    pub(crate) fn hand_written(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension(extension).filter(|(path, content)| {
            let written_by_tool = content
                .lines()
                .take(5)
                .any(|line| line.contains("@generated"));
            !written_by_tool && !GENERATED.iter().any(|part| path.contains(part))
        })
    }

    /// Returns the subjects of the commits that the rules check, newest first.
    pub(crate) fn commit_subjects(&self) -> &[String] {
        &self.commit_subjects
    }

    /// Returns the hand-written Rust files, sorted by path.
    pub(crate) fn rust(&self) -> impl Iterator<Item = RustFile<'_>> {
        self.files.iter().filter_map(|(path, text)| {
            let lexed = text.lexed.as_ref()?;
            let file = RustFile {
                path,
                content: &text.content,
                lexed,
            };
            (!file.is_generated()).then_some(file)
        })
    }
}

/// Returns the subjects of the commits since [`RULES_SINCE`]; none outside of a clone with history.
fn commit_subjects(root: &Path) -> Vec<String> {
    let mut git = std::process::Command::new("git");
    git.arg("-C").arg(root);
    git.args(["log", "--no-merges", "--format=%s"]);
    git.arg(format!("{RULES_SINCE}..HEAD"));
    let log = git.stderr(std::process::Stdio::null()).output();
    let log = log.ok().filter(|log| log.status.success());
    let text = log.map(|log| String::from_utf8_lossy(&log.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A hand-written Rust file.
#[derive(Clone, Copy)]
pub(crate) struct RustFile<'a> {
    pub(crate) path: &'a str,
    pub(crate) content: &'a str,
    pub(crate) lexed: &'a Lexed,
}

impl<'a> RustFile<'a> {
    fn is_generated(&self) -> bool {
        self.content
            .lines()
            .take(5)
            .any(|line| line.contains("@generated"))
    }

    /// Returns the directory of the crate: the path before `src`, `tests`, `examples` or `benches`.
    pub(crate) fn crate_dir(&self) -> &'a str {
        ["/src/", "/tests/", "/examples/", "/benches/"]
            .iter()
            .filter_map(|part| self.path.find(part))
            .min()
            .and_then(|end| self.path.get(..end))
            .unwrap_or("")
    }

    /// Whether the file is shipped code of the crate, not an integration test, example or
    /// benchmark.
    pub(crate) fn is_shipped(&self) -> bool {
        let rest = self
            .path
            .strip_prefix(self.crate_dir())
            .unwrap_or(self.path);
        rest.starts_with("/src/")
    }
}

/// A file or directory that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct TreeError {
    path: PathBuf,
    source: std::io::Error,
}
