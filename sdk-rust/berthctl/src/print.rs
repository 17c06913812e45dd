//! Output as a table or as JSON.

use std::io::{IsTerminal, Write};

use berth_sdk::proto::WorkloadState;
use serde::Serialize;

/// Prints a JSON document, formatted.
pub fn json<T: Serialize>(document: &T) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}

/// Prints a JSON document on one line.
pub fn json_line<T: Serialize>(document: &T) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, document)?;
    writeln!(out)?;
    out.flush()
}

/// Prints rows below a header, in columns as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<Cell>]) -> std::io::Result<()> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.width());
        cells
            .chain(header.get(column).map(|name| name.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header: Vec<Cell> = header.iter().map(|name| Cell::from(*name)).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width + 2 - cell.width().min(*width);
            line.push_str(&cell.render());
            line.push_str(&" ".repeat(gap));
        }
        self::line(line.trim_end())?;
    }
    Ok(())
}

/// Prints one line.
pub fn line(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

/// Prints a note to standard error, if that is a terminal.
pub fn note(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// A cell. Its color does not count as width.
pub struct Cell {
    text: String,
    color: Option<Color>,
}

/// Colors of cells.
#[derive(Clone, Copy)]
pub enum Color {
    Green,
    Yellow,
    Red,
}

impl Cell {
    pub fn colored(text: &str, color: Color) -> Self {
        Self {
            text: sanitize(text),
            color: Some(color),
        }
    }

    /// Creates a cell with the short name of a state, in the color of the state.
    pub fn state(state: WorkloadState) -> Self {
        let color = match state {
            WorkloadState::Running | WorkloadState::Completed => Color::Green,
            WorkloadState::Error | WorkloadState::NotFound => Color::Red,
            _ => Color::Yellow,
        };
        Self::colored(state_name(state), color)
    }

    /// Returns the text as printed.
    pub fn render(&self) -> String {
        let use_color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self.color.filter(|_| use_color) {
            None => self.text.clone(),
            Some(Color::Green) => format!("\u{1b}[32m{}\u{1b}[0m", self.text),
            Some(Color::Yellow) => format!("\u{1b}[33m{}\u{1b}[0m", self.text),
            Some(Color::Red) => format!("\u{1b}[31m{}\u{1b}[0m", self.text),
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self {
            text: sanitize(text),
            color: None,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// Returns the name of a state without its prefix, such as `RUNNING`.
pub fn state_name(state: WorkloadState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("WORKLOAD_STATE_").unwrap_or(name)
}

/// Removes terminal control characters from text that a host sent.
pub fn sanitize(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_control_characters() {
        assert_eq!(sanitize("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(Cell::from("é").width(), 1);
    }
}
