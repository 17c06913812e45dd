//! The flags that say by which times the scheduler goes.

use std::time::Duration;

use super::value;
use crate::core::Timings;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Times")]
pub(super) struct TimingArgs {
    /// Silence after which a host that still listens counts as lost; 5s at least
    #[arg(long, value_name = "DURATION", default_value = "35s", value_parser = lost_after)]
    host_lost_after: Duration,

    /// How long after its own or the broker's return the scheduler takes no host for lost
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = up_to_a_minute)]
    settle: Duration,

    /// How long a host may take over the answer to a start before the workload goes elsewhere
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = up_to_an_hour)]
    start_timeout: Duration,

    /// How long a host that is gone may go on running what must never run twice
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = up_to_an_hour)]
    fence: Duration,

    /// How long a rollout may stand still before it is reported as stuck
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = up_to_an_hour)]
    progress_deadline: Duration,

    /// How many more than wanted may run during a rollout, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    surge_percent: u32,

    /// How often each workload's state is asked for
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = status_interval)]
    status_interval: Duration,
}

impl TimingArgs {
    pub(super) fn into_timings(self) -> Result<Timings, String> {
        let mut timings = Timings {
            start_timeout: self.start_timeout,
            fence: self.fence,
            progress_deadline: self.progress_deadline,
            surge_percent: self.surge_percent,
            status_interval: self.status_interval,
            ..Timings::default()
        };
        let liveness = &mut timings.liveness;
        liveness.settle = self.settle;
        liveness.lost_after = self.host_lost_after;
        // Suspicion comes before the verdict, and a silent host is asked a few times in between.
        liveness.suspect_after = liveness.suspect_after.min(self.host_lost_after / 2);
        liveness.silent_probe_interval =
            liveness.silent_probe_interval.min(self.host_lost_after / 5);
        Ok(timings)
    }
}

fn lost_after(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(5)..=Duration::from_secs(3600))
}

fn status_interval(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(600))
}

fn up_to_a_minute(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(60))
}

fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(3600))
}
