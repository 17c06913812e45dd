//! Counts what passed and what failed, from what the test harness prints.

use std::ops::Add;

/// How many passed and how many failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests, or steps that are not made of tests.
    pub passed: usize,
    /// The same.
    pub failed: usize,
}

impl Tally {
    /// One step that passed.
    pub const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    /// One step that failed.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// One step, by how it ended.
    #[must_use]
    pub const fn of(success: bool) -> Self {
        if success { Self::PASSED } else { Self::FAILED }
    }

    /// What a line of the test harness reports: `test result: ok. 4 passed; 0 failed; …`.
    #[must_use]
    pub fn of_line(line: &str) -> Option<Self> {
        let counts = line
            .trim()
            .strip_prefix("test result: ")?
            .split_once(". ")?
            .1;
        let count = |what: &str| {
            let part = counts
                .split(';')
                .find_map(|part| part.trim().strip_suffix(what))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
        })
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_lines_of_the_harness_are_counted_and_no_others() {
        let tally = |passed, failed| Some(Tally { passed, failed });
        let ok = "test result: ok. 28 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.07s";
        assert_eq!(Tally::of_line(ok), tally(28, 0));
        let failed =
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::of_line(failed), tally(3, 1));
        assert_eq!(Tally::of_line("test result: pending"), None);
        assert_eq!(Tally::of_line("12 passed; 0 failed"), None);
    }
}
