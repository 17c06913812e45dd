//! An error with all its causes, for people.

use std::error::Error;
use std::fmt::Write as _;

/// The messages of an error and of the causes behind it, joined by colons: one line when each of
/// them is.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
