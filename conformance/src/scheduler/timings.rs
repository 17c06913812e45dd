//! Timings: maximum times by which a scheduler is judged, as docs/spec/scheduler.md names them. A
//! target may declare shorter times, so that a run takes less time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::pattern::suggestion;

macro_rules! timings {
    ($($field:ident $max_ms:literal $description:literal;)*) => {
        /// Maximum times of a target. None exceeds its maximum in the specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Timings {
            $(#[doc = $description] pub $field: Duration,)*
        }

        impl Default for Timings {
            fn default() -> Timings {
                Timings { $($field: Duration::from_millis($max_ms),)* }
            }
        }

        impl Timings {
            /// Name, maximum in milliseconds, and description of each limit.
            pub const ALL: &[(&str, u64, &str)] =
                &[$((concat!(stringify!($field), "_ms"), $max_ms, $description),)*];

            fn set(&mut self, name: &str, value: Duration) {
                $(if name == concat!(stringify!($field), "_ms") { self.$field = value; })*
            }
        }
    };
}

// Copy of the table in docs/spec/scheduler.md.
timings! {
    act 10_000 "From the event that requires a command to the command on the bus.";
    show 10_000 "From an event to the status that shows it.";
    register 5_000 "From the first heartbeat of a host to its use.";
    poll 30_000 "Between two status requests for a running id.";
    notice 10_000 "From the end of a host's process to the starts on other hosts.";
    silence 40_000 "From the last message of a connected host to its loss.";
    resend 15_000 "From a stop without a reply to its repetition.";
    retry 60_000 "From a failed start to the next one, for the first five.";
    cleanup 30_000 "From the first heartbeat of a returning host to the stops of its unwanted workloads.";
    reconnect 15_000 "From the return of the broker to the next command.";
    fence 120_000 "From the last message of a lost host to a replacement that must not overlap.";
    exit 15_000 "From SIGTERM to the end of the process.";
}

/// Error in a declaration of time limits.
#[derive(Debug, thiserror::Error)]
pub enum TimingError {
    /// The name is unknown.
    #[error("unknown timing `{name}`{suggestion}")]
    Unknown {
        /// Declared name.
        name: String,
        /// Hint at the most similar name, or empty.
        suggestion: String,
    },
    /// The value exceeds the maximum in the specification.
    #[error("`{name}` is {value}, but the specification allows at most {max}")]
    TooLong {
        /// Declared name.
        name: String,
        /// Declared value in milliseconds.
        value: u64,
        /// Maximum in milliseconds.
        max: u64,
    },
}

impl Timings {
    /// Returns the declared limits, and the maxima of the specification for all others.
    ///
    /// # Errors
    /// A name is unknown, or a value exceeds its maximum.
    pub fn from_declared(table: &BTreeMap<String, u64>) -> Result<Timings, TimingError> {
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

    /// Maximum time from an operation at the intake to the status that shows its effect: the
    /// scheduler learns of the operation within `act`.
    pub fn show_after_act(&self) -> Duration {
        self.act + self.show
    }

    /// Heartbeat interval of simulated hosts: a fifth of `silence`, but at least 1 s, and not
    /// longer than that of real hosts.
    pub fn heartbeat_interval(&self) -> Duration {
        (self.silence / 5).clamp(Duration::from_secs(1), Duration::from_secs(15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_unknown_and_excessive_timings() {
        let declared = |name: &str, value| {
            let table = BTreeMap::from([(name.to_owned(), value)]);
            Timings::from_declared(&table).map_err(|error| error.to_string())
        };
        let short = declared("silence_ms", 4_000).unwrap();
        assert_eq!(short.silence, Duration::from_secs(4));
        assert_eq!(short.heartbeat_interval(), Duration::from_secs(1));
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
