//! The times by which a scheduler is judged: the longest that the specification allows, or shorter ones
//! that a target declares, so that nobody waits a minute for what is configured to take seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::pattern::suggestion;

macro_rules! timings {
    ($($field:ident $max_ms:literal $what:literal;)*) => {
        /// How long a target may take for what. Never longer than the specification allows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Timings {
            $(#[doc = $what] pub $field: Duration,)*
        }

        impl Default for Timings {
            fn default() -> Timings {
                Timings { $($field: Duration::from_millis($max_ms),)* }
            }
        }

        impl Timings {
            /// Name, longest value in milliseconds, meaning.
            pub const ALL: &[(&str, u64, &str)] = &[$((concat!(stringify!($field), "_ms"), $max_ms, $what),)*];

            fn set(&mut self, name: &str, value: Duration) {
                $(if name == concat!(stringify!($field), "_ms") { self.$field = value; })*
            }
        }
    };
}

// The table of docs/spec/scheduler.md.
timings! {
    act 10_000 "From what calls for a command to the command on the bus.";
    show 10_000 "From what a scheduler learns to what it shows.";
    register 5_000 "From the first heartbeat of a host to its use.";
    poll 30_000 "From one status of a running id to the next.";
    notice 10_000 "From the end of a host's process to the starts elsewhere.";
    silence 40_000 "From the last sign of a host that stays connected to its loss.";
    resend 15_000 "From a stop without an answer to its repetition.";
    retry 60_000 "From a failed start to the next; for the first five.";
    cleanup 30_000 "From the first heartbeat of a host that returns to the stops of what is no longer wanted there.";
    reconnect 15_000 "From the return of the broker to the next command.";
    fence 120_000 "From the last sign of a lost host to a replacement that must not overlap.";
    exit 15_000 "From SIGTERM to the end of the process.";
}

/// A timing that is none.
#[derive(Debug, thiserror::Error)]
pub enum TimingError {
    /// There is no such name.
    #[error("there is no timing `{name}`{suggestion}")]
    Unknown {
        /// The name.
        name: String,
        /// The near spelling.
        suggestion: String,
    },
    /// It is longer than it may be.
    #[error("`{name}` is {value}, and the specification allows at most {max}")]
    TooLong {
        /// The name.
        name: String,
        /// What was declared.
        value: u64,
        /// The longest.
        max: u64,
    },
}

impl Timings {
    /// The declared ones, and the longest for what is not declared.
    ///
    /// # Errors
    /// A name is unknown or a value too long.
    pub fn declared(table: &BTreeMap<String, u64>) -> Result<Timings, TimingError> {
        let mut timings = Timings::default();
        for (name, value) in table {
            let names = Timings::ALL.iter().map(|(name, _, _)| *name);
            let Some((_, max, _)) = Timings::ALL.iter().find(|(known, _, _)| known == name) else {
                return Err(TimingError::Unknown {
                    name: name.clone(),
                    suggestion: suggestion(name, names),
                });
            };
            if value > max {
                return Err(TimingError::TooLong {
                    name: name.clone(),
                    value: *value,
                    max: *max,
                });
            }
            timings.set(name, Duration::from_millis(*value));
        }
        Ok(timings)
    }

    /// How often simulated hosts beat: four times before silence tells, as rarely as real ones at most.
    pub fn beat_every(&self) -> Duration {
        (self.silence / 5).clamp(Duration::from_secs(1), Duration::from_secs(15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_are_known_and_never_longer_than_allowed() {
        let declared = |name: &str, value| {
            let table = BTreeMap::from([(name.to_owned(), value)]);
            Timings::declared(&table).map_err(|bad| bad.to_string())
        };
        let short = declared("silence_ms", 4_000).unwrap();
        assert_eq!(short.silence, Duration::from_secs(4));
        assert_eq!(short.beat_every(), Duration::from_secs(1));
        assert_eq!(short.poll, Timings::default().poll);
        assert!(
            declared("silence_ms", 600_000)
                .unwrap_err()
                .contains("at most")
        );
        assert!(
            declared("silense_ms", 1)
                .unwrap_err()
                .contains("`silence_ms`")
        );
    }
}
