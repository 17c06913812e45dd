//! Target file (`target.toml`): errors, parsing and lookup of names, for both sides.

use std::error::Error;
use std::path::Path;

use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::pattern::suggestion;
use super::side::Side;
use crate::spec::requirements::Profile;

/// Signals that are suggested if the name of a signal is unknown.
const SUGGESTED_SIGNALS: [&str; 2] = ["SIGTERM", "SIGINT"];

/// Reason why a target file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TargetFileError {
    /// The file cannot be read.
    #[error("cannot read target file {path}")]
    Read {
        /// Path of the target file.
        path: String,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, a key is unknown, or a value has the wrong type.
    #[error("invalid {side} target file {path}{suggestion}")]
    Parse {
        /// Name of the side.
        side: &'static str,
        /// Path of the target file.
        path: String,
        /// Suggestion of a similar key, if a key is unknown.
        suggestion: String,
        /// Parse error.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A signal, profile or role is unknown.
    #[error("{path}: unknown {kind} `{value}`{suggestion}")]
    Unknown {
        /// Path of the target file.
        path: String,
        /// Kind of the value.
        kind: String,
        /// Unknown value.
        value: String,
        /// Suggestion of a similar value.
        suggestion: String,
    },
    /// The file has both or neither of `[launch]` and `[running]`.
    #[error("{0}: exactly one of [launch] and [running] is required")]
    Access(String),
    /// The launch command is empty.
    #[error("{0}: `launch.command` is empty")]
    EmptyCommand(String),
    /// An image file cannot be read.
    #[error("{path}: cannot read the image for role `{role}` from {file}")]
    Image {
        /// Path of the target file.
        path: String,
        /// Role of the image.
        role: String,
        /// Path of the image file.
        file: String,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A declared time limit is invalid.
    #[error("invalid [timings] in {path}")]
    Timings {
        /// Path of the target file.
        path: String,
        /// Reason why the time limit is invalid.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Path and side of a target file, which its errors name.
#[derive(Clone, Copy, Debug)]
pub struct TargetFile<'p> {
    /// Path of the file.
    pub path: &'p Path,
    /// Side of the target.
    pub side: Side,
}

impl TargetFile<'_> {
    /// Reads and parses the file. `keys` are all keys of the format, for suggestions.
    ///
    /// # Errors
    /// Fails if the file cannot be read or parsed.
    pub fn parse<T: DeserializeOwned>(self, keys: &[&str]) -> Result<T, TargetFileError> {
        let text = std::fs::read_to_string(self.path).map_err(|source| TargetFileError::Read {
            path: self.display_path(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| TargetFileError::Parse {
            side: self.side.name(),
            path: self.display_path(),
            suggestion: similar_key(source.message(), keys),
            source: Box::new(source),
        })
    }

    /// Returns the profiles with these names.
    ///
    /// # Errors
    /// Fails if the side has no profile with one of the names.
    pub fn profiles(self, names: &[String]) -> Result<Vec<Profile>, TargetFileError> {
        let profiles = self.side.profiles();
        let find = |name: &String| {
            let found = profiles.iter().find(|profile| profile.name() == name);
            found.copied().ok_or_else(|| {
                let known = profiles.iter().map(|profile| profile.name());
                self.unknown(&format!("{} profile", self.side.name()), name, known)
            })
        };
        names.iter().map(find).collect()
    }

    /// Returns the signal with this name [default: SIGTERM].
    ///
    /// # Errors
    /// Fails if there is no signal with this name.
    pub fn stop_signal(self, name: Option<&str>) -> Result<Signal, TargetFileError> {
        match name {
            None => Ok(Signal::SIGTERM),
            Some(name) => name
                .parse()
                .map_err(|_| self.unknown("signal", name, SUGGESTED_SIGNALS)),
        }
    }

    /// Returns the error for a value that is not among the known values.
    pub fn unknown<'n>(
        self,
        kind: &str,
        value: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> TargetFileError {
        TargetFileError::Unknown {
            path: self.display_path(),
            kind: kind.to_owned(),
            value: value.to_owned(),
            suggestion: suggestion(value, known),
        }
    }

    /// Returns the path as errors show it.
    pub fn display_path(self) -> String {
        self.path.display().to_string()
    }
}

/// Returns a suggestion if serde reports ``unknown field `comand`, expected …``.
fn similar_key(message: &str, keys: &[&str]) -> String {
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    unknown
        .map(|key| suggestion(key, keys.iter().copied()))
        .unwrap_or_default()
}
