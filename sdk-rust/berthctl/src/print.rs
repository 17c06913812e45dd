//! Prints for people, in columns, or for programs, as JSON.

use std::io::{IsTerminal, Write};

use berth_sdk::proto::WorkloadState;
use serde::Serialize;

/// One JSON document, on lines of its own.
pub fn json<T: Serialize>(document: &T) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}

/// One JSON document on one line.
pub fn json_line<T: Serialize>(document: &T) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, document)?;
    writeln!(out)?;
    out.flush()
}

/// Rows below a head, in columns as wide as their widest cell.
pub fn table(head: &[&str], rows: &[Vec<Cell>]) -> std::io::Result<()> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.width());
        cells
            .chain(head.get(column).map(|name| name.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<Cell> = head.iter().map(|name| Cell::from(*name)).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width + 2 - cell.width().min(*width);
            line.push_str(&cell.shown());
            line.push_str(&" ".repeat(gap));
        }
        self::line(line.trim_end())?;
    }
    Ok(())
}

/// One line on standard output.
pub fn line(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

/// A remark beside the output, only where somebody is looking.
pub fn remark(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// One cell; its colour does not count as width.
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// The few colours there are.
#[derive(Clone, Copy)]
pub enum Colour {
    Green,
    Yellow,
    Red,
}

impl Cell {
    pub fn coloured(text: &str, colour: Colour) -> Self {
        Self {
            text: plain(text),
            colour: Some(colour),
        }
    }

    /// A state without its prefix, in its colour.
    pub fn state(state: WorkloadState) -> Self {
        let colour = match state {
            WorkloadState::Running | WorkloadState::Completed => Colour::Green,
            WorkloadState::Error | WorkloadState::NotFound => Colour::Red,
            _ => Colour::Yellow,
        };
        Self::coloured(state_name(state), colour)
    }

    /// The text as it is printed.
    pub fn shown(&self) -> String {
        let colourful = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self.colour.filter(|_| colourful) {
            None => self.text.clone(),
            Some(Colour::Green) => format!("\u{1b}[32m{}\u{1b}[0m", self.text),
            Some(Colour::Yellow) => format!("\u{1b}[33m{}\u{1b}[0m", self.text),
            Some(Colour::Red) => format!("\u{1b}[31m{}\u{1b}[0m", self.text),
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self {
            text: plain(text),
            colour: None,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// `RUNNING` and not `WORKLOAD_STATE_RUNNING`.
pub fn state_name(state: WorkloadState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("WORKLOAD_STATE_").unwrap_or(name)
}

/// Text from a peer without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_do_not_speak_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(Cell::from("é").width(), 1);
    }
}
