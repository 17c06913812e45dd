//! Writing of the report to a file, in the format that its extension selects.

use std::path::Path;

use super::format::Style;
use super::{Report, json, junit, text};

impl Report {
    /// Writes the report in the format that the extension selects: `.json`, `.xml` or `.txt`.
    ///
    /// # Errors
    /// Fails if the extension is unknown or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let text = match FileFormat::of(path)? {
            FileFormat::Json => json::render(self),
            FileFormat::Junit => junit::render(self),
            FileFormat::Text => text::render(self, &Style::plain()),
        };
        let failed = |source| WriteError::Write {
            path: path.display().to_string(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)
    }
}

/// Format of a report file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// `.json`
    Json,
    /// `.xml`
    Junit,
    /// `.txt`
    Text,
}

impl FileFormat {
    /// Returns the format that the extension of a file selects.
    ///
    /// # Errors
    /// Fails if the extension is missing or unknown.
    pub fn of(path: &Path) -> Result<FileFormat, WriteError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(FileFormat::Json),
            Some("xml") => Ok(FileFormat::Junit),
            Some("txt") => Ok(FileFormat::Text),
            _ => Err(WriteError::UnknownFormat(path.display().to_string())),
        }
    }
}

/// Failure to write a report file.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The extension is missing or unknown.
    #[error("unknown format of report file {0}: use .json, .xml or .txt")]
    UnknownFormat(String),
    /// The file cannot be written.
    #[error("cannot write report {path}")]
    Write {
        /// Path of the file.
        path: String,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
}
