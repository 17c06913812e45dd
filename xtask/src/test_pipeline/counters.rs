//! Counters of passed and failed tests, parsed from the output of the test harness.

use std::ops::Add;

/// Numbers of passed and failed tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passed tests, and passed steps without tests.
    pub passed: usize,
    /// Failed tests, and failed steps without tests.
    pub failed: usize,
}

impl Counters {
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

    /// Returns the counters of one step.
    #[must_use]
    pub const fn of(success: bool) -> Self {
        if success { Self::PASSED } else { Self::FAILED }
    }

    /// Parses a summary line of the test harness: `test result: ok. 4 passed; 0 failed; …`.
    #[must_use]
    pub fn parse_line(line: &str) -> Option<Self> {
        let counts = line
            .trim()
            .strip_prefix("test result: ")?
            .split_once(". ")?
            .1;
        let count = |label: &str| {
            let part = counts
                .split(';')
                .find_map(|part| part.trim().strip_suffix(label))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
        })
    }
}

impl Add for Counters {
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
    use super::Counters;

    #[test]
    fn parses_summary_lines_only() {
        let counters = |passed, failed| Some(Counters { passed, failed });
        let ok = "test result: ok. 28 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
                  finished in 0.07s";
        assert_eq!(Counters::parse_line(ok), counters(28, 0));
        let failed =
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Counters::parse_line(failed), counters(3, 1));
        assert_eq!(Counters::parse_line("test result: pending"), None);
        assert_eq!(Counters::parse_line("12 passed; 0 failed"), None);
    }
}
