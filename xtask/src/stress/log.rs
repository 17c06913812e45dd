//! The log of stress runs, from which an interrupted series resumes.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::log_path;

/// One part of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) run: u32,
    pub(super) side: String,
    pub(super) broker: String,
    pub(super) passed: bool,
    pub(super) seconds: u64,
}

/// All entries of one commit, in memory and in a file with one JSON object per line.
pub(super) struct Log {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    commit: String,
}

impl Log {
    /// Reads the entries of `commit`. A log of another commit, or `fresh`, starts a new log.
    pub(super) fn open(dir: &Path, commit: &str, fresh: bool) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(LogError::Io)?;
        let path = log_path(dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) if !fresh => text,
            _ => String::new(),
        };
        if let Some(entries) = parse(&text, commit) {
            return Ok(Self { path, entries });
        }
        let header = serde_json::to_string(&Header {
            commit: commit.to_owned(),
        });
        let header = header.map_err(LogError::Json)?;
        std::fs::write(&path, format!("{header}\n")).map_err(LogError::Io)?;
        Ok(Self {
            path,
            entries: Vec::new(),
        })
    }

    /// Whether the log contains a part.
    pub(super) fn contains(&self, run: u32, side: &str, broker: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.run == run && entry.side == side && entry.broker == broker)
    }

    /// Appends one entry to the file.
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), LogError> {
        let line = serde_json::to_string(&entry).map_err(LogError::Json)?;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(LogError::Io)?;
        writeln!(file, "{line}").map_err(LogError::Io)?;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn failed(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.passed).count()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Parses a log of `commit`. An incomplete last line, left by an interruption, is ignored.
fn parse(text: &str, commit: &str) -> Option<Vec<Entry>> {
    let mut lines = text.lines();
    let header: Header = serde_json::from_str(lines.next()?).ok()?;
    (header.commit == commit).then(|| {
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    })
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed { "passed" } else { "FAILED" };
        let Self {
            run,
            side,
            broker,
            seconds,
            ..
        } = self;
        write!(f, "run {run}: {side} on {broker}: {result} in {seconds} s")
    }
}

/// Reason why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read or written.
    #[error("cannot read or write the log")]
    Io(#[source] std::io::Error),
    /// An entry cannot be written as JSON.
    #[error("cannot write an entry as JSON")]
    Json(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(run: u32, passed: bool) -> Entry {
        Entry {
            run,
            side: "host".to_owned(),
            broker: "embedded".to_owned(),
            passed,
            seconds: 1,
        }
    }

    #[test]
    fn resumes_log_of_same_commit_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), "a", false).unwrap();
        log.append(entry(1, true)).unwrap();
        log.append(entry(2, false)).unwrap();
        let resumed = Log::open(dir.path(), "a", false).unwrap();
        assert!(resumed.contains(2, "host", "embedded"));
        assert!(!resumed.contains(2, "host", "nats-server"));
        assert_eq!((resumed.len(), resumed.failed()), (2, 1));
        assert_eq!(Log::open(dir.path(), "b", false).unwrap().len(), 0);
        assert_eq!(Log::open(dir.path(), "a", false).unwrap().len(), 0);
    }

    #[test]
    fn ignores_incomplete_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), "a", false).unwrap();
        log.append(entry(1, true)).unwrap();
        let path = log.path().to_owned();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"run\":2,\"si");
        std::fs::write(&path, text).unwrap();
        assert_eq!(Log::open(dir.path(), "a", false).unwrap().len(), 1);
    }
}
