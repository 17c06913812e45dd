//! The text files of the repository, read once, so that the rules need no file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::blanking::Blanked;

/// Directories that hold nothing that is written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", "berth-report", "node_modules"];

/// The endings of the files that the rules look at.
const ENDINGS: [&str; 6] = ["rs", "toml", "md", "proto", "wat", "wit"];

/// The files, by their path in the repository, with `/` between the parts.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Text>,
    /// Everything that a link can point at: files of any kind, and directories.
    paths: std::collections::BTreeSet<String>,
}

/// A file, and for Rust its code apart from its comments and strings.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) content: String,
    pub(crate) blanked: Option<Blanked>,
}

impl Tree {
    /// Reads the files below `root`.
    ///
    /// # Errors
    ///
    /// When a directory or a file cannot be read.
    pub fn read(root: &Path) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        let mut open = vec![root.to_path_buf()];
        while let Some(dir) = open.pop() {
            let failed = |source| TreeError {
                path: dir.clone(),
                source,
            };
            for entry in std::fs::read_dir(&dir).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if SKIPPED.contains(&name.as_str()) {
                    continue;
                }
                let place = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                tree.paths.insert(place.clone());
                if path.is_dir() {
                    open.push(path);
                } else if ENDINGS
                    .iter()
                    .any(|ending| name.ends_with(&format!(".{ending}")))
                {
                    match std::fs::read_to_string(&path) {
                        Ok(content) => tree.insert(&place, content),
                        // Removed since the directory was listed: a generator is at work.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(source) => return Err(TreeError { path, source }),
                    }
                }
            }
        }
        Ok(tree)
    }

    /// A tree of these files, for the tests of the rules.
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
        let blanked = path.ends_with(".rs").then(|| Blanked::new(&content));
        self.files
            .insert(path.to_owned(), Text { content, blanked });
    }

    /// The content of one file.
    pub(crate) fn content(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|text| text.content.as_str())
    }

    /// Whether there is a file or a directory at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The files with this ending, by path.
    pub(crate) fn with_ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        let ending = format!(".{ending}");
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(&ending))
            .map(|(path, text)| (path.as_str(), text.content.as_str()))
    }

    /// The Rust files that people write, by path.
    pub(crate) fn rust(&self) -> impl Iterator<Item = RustFile<'_>> {
        self.files.iter().filter_map(|(path, text)| {
            let blanked = text.blanked.as_ref()?;
            let file = RustFile {
                path,
                content: &text.content,
                blanked,
            };
            (!file.is_generated()).then_some(file)
        })
    }
}

/// A Rust file that people write.
#[derive(Clone, Copy)]
pub(crate) struct RustFile<'a> {
    pub(crate) path: &'a str,
    pub(crate) content: &'a str,
    pub(crate) blanked: &'a Blanked,
}

impl<'a> RustFile<'a> {
    fn is_generated(&self) -> bool {
        self.content
            .lines()
            .take(5)
            .any(|line| line.contains("@generated"))
    }

    /// The directory of the crate: what stands before `src`, `tests`, `examples` or `benches`.
    pub(crate) fn crate_dir(&self) -> &'a str {
        ["/src/", "/tests/", "/examples/", "/benches/"]
            .iter()
            .filter_map(|part| self.path.find(part))
            .min()
            .and_then(|end| self.path.get(..end))
            .unwrap_or("")
    }

    /// Whether the file is part of what the crate ships, not of its integration tests.
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
#[error("{} cannot be read", path.display())]
pub struct TreeError {
    path: PathBuf,
    source: std::io::Error,
}
