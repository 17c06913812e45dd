//! Puts a suite together, setting by setting.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Suite;
use crate::check::executor::Observer;
use crate::check::pattern::Pattern;
use crate::check::run_options::MAX_REPEAT;
use crate::host::target::{Access, Running, Target};
use crate::report::Report;
use crate::spec::requirements::Profile;
use crate::testbed::broker::BrokerChoice;

/// Puts a [`Suite`] together.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    suite: Suite,
}

impl Builder {
    pub(super) fn new(suite: Suite) -> Builder {
        Builder { suite }
    }

    /// Judges what this command launches; the placeholders are [`crate::host::target::PLACEHOLDERS`].
    pub fn command<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Builder {
        self.suite.target = Target::command(command);
        self
    }

    /// Judges a host that runs already.
    pub fn running(mut self, nats_url: &str, host_id: &str) -> Builder {
        let running = Running {
            nats_url: nats_url.to_owned(),
            host_id: host_id.to_owned(),
            http_addr: None,
        };
        self.suite.target = Target::new(host_id, Access::Running(running));
        self
    }

    /// Judges this target.
    pub fn target(mut self, target: Target) -> Builder {
        self.suite.target = target;
        self
    }

    /// Judges by this profile; may be repeated. Without it: by those that the target claims.
    pub fn profile(mut self, profile: Profile) -> Builder {
        let profiles = self.suite.options.profiles.get_or_insert_default();
        if !profiles.contains(&profile) {
            profiles.push(profile);
        }
        self
    }

    /// Runs only checks that match; may be repeated.
    pub fn only(mut self, pattern: &str) -> Builder {
        self.suite.options.run.push(Pattern(pattern.to_owned()));
        self
    }

    /// Leaves out checks that match; may be repeated.
    pub fn skip(mut self, pattern: &str) -> Builder {
        self.suite.options.skip.push(Pattern(pattern.to_owned()));
        self
    }

    /// Runs slow checks as well.
    pub fn slow(mut self, slow: bool) -> Builder {
        self.suite.options.slow = slow;
        self
    }

    /// The order in which checks begin.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.suite.options.seed = seed;
        self
    }

    /// How often each check runs.
    pub fn repeat(mut self, repeat: usize) -> Builder {
        self.suite.options.repeat = repeat.clamp(1, MAX_REPEAT);
        self
    }

    /// How many checks run at once.
    pub fn jobs(mut self, jobs: usize) -> Builder {
        self.suite.options.jobs = jobs.max(1);
        self
    }

    /// Which broker to use.
    pub fn broker(mut self, broker: BrokerChoice) -> Builder {
        self.suite.options.broker = broker;
        self
    }

    /// The failures that are known.
    pub fn known_failures(mut self, path: &Path) -> Builder {
        self.suite.options.known = Some(path.to_owned());
        self
    }

    /// Whoever wants to know how far the run is.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Builder {
        self.suite.options.observer = observer;
        self
    }

    /// Ends the run early when it is cancelled; the report says so.
    pub fn stop(mut self, stop: CancellationToken) -> Builder {
        self.suite.options.stop = stop;
        self
    }

    /// The suite.
    pub fn build(self) -> Suite {
        self.suite
    }

    /// Builds the suite and runs it.
    pub async fn run(self) -> Report {
        self.suite.run().await
    }
}
