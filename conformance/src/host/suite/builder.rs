//! Builder of a [`Suite`].

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Suite;
use crate::check::executor::Observer;
use crate::check::pattern::Pattern;
use crate::check::run_options::MAX_REPEAT;
use crate::host::target::{Access, ExistingHost, Target};
use crate::report::Report;
use crate::spec::requirements::Profile;
use crate::testbed::broker::BrokerChoice;

/// Builder of a [`Suite`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    suite: Suite,
}

impl Builder {
    pub(super) fn new(suite: Suite) -> Builder {
        Builder { suite }
    }

    /// Judges the host that this command launches, with [`crate::host::target::PLACEHOLDERS`].
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Builder {
        self.suite.target = Target::command(command);
        self
    }

    /// Judges a host that is already running.
    pub fn running(mut self, nats_url: &str, host_id: &str) -> Builder {
        let existing = ExistingHost {
            nats_url: nats_url.to_owned(),
            host_id: host_id.to_owned(),
            http_addr: None,
        };
        self.suite.target = Target::new(host_id, Access::Running(existing));
        self
    }

    /// Judges this target.
    pub fn target(mut self, target: Target) -> Builder {
        self.suite.target = target;
        self
    }

    /// Adds a profile to judge by. Default: the profiles that the target claims.
    pub fn profile(mut self, profile: Profile) -> Builder {
        let profiles = self.suite.options.profiles.get_or_insert_default();
        if !profiles.contains(&profile) {
            profiles.push(profile);
        }
        self
    }

    /// Runs only checks that match this or another `only` pattern.
    pub fn only(mut self, pattern: &str) -> Builder {
        self.suite.options.run.push(Pattern(pattern.to_owned()));
        self
    }

    /// Skips checks that match this pattern.
    pub fn skip(mut self, pattern: &str) -> Builder {
        self.suite.options.skip.push(Pattern(pattern.to_owned()));
        self
    }

    /// Sets whether slow checks run.
    pub fn slow(mut self, slow: bool) -> Builder {
        self.suite.options.slow = slow;
        self
    }

    /// Sets the seed of the order in which checks start.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.suite.options.seed = seed;
        self
    }

    /// Sets the number of repetitions of each check, at most `MAX_REPEAT`.
    pub fn repeat(mut self, repeat: usize) -> Builder {
        self.suite.options.repeat = repeat.clamp(1, MAX_REPEAT);
        self
    }

    /// Sets the number of concurrent checks.
    pub fn jobs(mut self, jobs: usize) -> Builder {
        self.suite.options.jobs = jobs.max(1);
        self
    }

    /// Sets the broker.
    pub fn broker(mut self, broker: BrokerChoice) -> Builder {
        self.suite.options.broker = broker;
        self
    }

    /// Sets the known-failures file.
    pub fn known_failures(mut self, path: &Path) -> Builder {
        self.suite.options.known_failures = Some(path.to_owned());
        self
    }

    /// Sets the observer of the run's progress.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Builder {
        self.suite.options.observer = observer;
        self
    }

    /// Sets a token that interrupts the run; the report is then marked as aborted.
    pub fn stop(mut self, stop: CancellationToken) -> Builder {
        self.suite.options.stop = stop;
        self
    }

    /// Builds the suite.
    pub fn build(self) -> Suite {
        self.suite
    }

    /// Builds the suite and runs it.
    pub async fn run(self) -> Report {
        self.suite.run().await
    }
}
