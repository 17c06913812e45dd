//! Puts a suite together, setting by setting.

use std::{path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::Suite;
use crate::{
    broker::Choice,
    pattern::Pattern,
    plan::MAX_REPEAT,
    report::Report,
    requirements::Profile,
    run::Observer,
    target::{Access, Running, Target},
};

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

    /// Judges what this command launches; the placeholders are [`crate::target::PLACEHOLDERS`].
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
        let profiles = self.suite.plan.profiles.get_or_insert_default();
        if !profiles.contains(&profile) {
            profiles.push(profile);
        }
        self
    }

    /// Runs only checks that match; may be repeated.
    pub fn only(mut self, pattern: &str) -> Builder {
        self.suite.plan.run.push(Pattern(pattern.to_owned()));
        self
    }

    /// Leaves out checks that match; may be repeated.
    pub fn skip(mut self, pattern: &str) -> Builder {
        self.suite.plan.skip.push(Pattern(pattern.to_owned()));
        self
    }

    /// Runs slow checks as well.
    pub fn slow(mut self, slow: bool) -> Builder {
        self.suite.plan.slow = slow;
        self
    }

    /// The order in which checks begin.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.suite.plan.seed = seed;
        self
    }

    /// How often each check runs.
    pub fn repeat(mut self, repeat: usize) -> Builder {
        self.suite.plan.repeat = repeat.clamp(1, MAX_REPEAT);
        self
    }

    /// How many checks run at once.
    pub fn jobs(mut self, jobs: usize) -> Builder {
        self.suite.plan.jobs = jobs.max(1);
        self
    }

    /// Which broker to use.
    pub fn broker(mut self, broker: Choice) -> Builder {
        self.suite.plan.broker = broker;
        self
    }

    /// The failures that are known.
    pub fn known_failures(mut self, path: &Path) -> Builder {
        self.suite.plan.known = Some(path.to_owned());
        self
    }

    /// Whoever wants to know how far the run is.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Builder {
        self.suite.plan.observer = observer;
        self
    }

    /// Ends the run early when it is cancelled; the report says so.
    pub fn stop(mut self, stop: CancellationToken) -> Builder {
        self.suite.plan.stop = stop;
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
