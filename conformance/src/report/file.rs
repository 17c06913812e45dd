//! Writing the report to a file, in the form that its name asks for.

use std::path::Path;

use super::format::Style;
use super::{Report, json, junit, text};

impl Report {
    /// Writes the report in the form that the file's extension names: `.json`, `.xml`, `.txt`.
    ///
    /// # Errors
    /// The extension is unknown, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let form = Form::of(path)?;
        let text = match form {
            Form::Json => json::render(self),
            Form::Junit => junit::render(self),
            Form::Text => text::render(self, &Style::plain()),
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

/// A form of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `.json`
    Json,
    /// `.xml`
    Junit,
    /// `.txt`
    Text,
}

impl Form {
    /// The form that a file's extension names.
    ///
    /// # Errors
    /// It names none.
    pub fn of(path: &Path) -> Result<Form, WriteError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Form::Json),
            Some("xml") => Ok(Form::Junit),
            Some("txt") => Ok(Form::Text),
            _ => Err(WriteError::Form(path.display().to_string())),
        }
    }
}

/// No report file.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The extension names no form.
    #[error("cannot tell the form of the report {0}: use .json, .xml or .txt")]
    Form(String),
    /// The file cannot be written.
    #[error("the report {path} cannot be written")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
