//! Flags for the timings of the scheduler.

use std::time::Duration;

use super::value;
use crate::core::Timings;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Timings")]
pub(super) struct TimingArgs {
    /// Silence after which a host that still listens is lost, at least 5s
    #[arg(long, value_name = "DURATION", default_value = "35s", value_parser = lost_after)]
    host_lost_after: Duration,

    /// Time after a start or a reconnect to NATS during which no host is declared lost, 1s–60s
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = up_to_a_minute)]
    settling_period: Duration,

    /// Timeout of a start, after which the workload is placed on another host, 1s–1h
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = up_to_an_hour)]
    start_timeout: Duration,

    /// Time for which a lost host may keep running a workload that must not run twice, 1s–1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = up_to_an_hour)]
    fence: Duration,

    /// Time for which the ids to stop on a lost host are remembered in case it returns, 24h–2160h
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = one_to_90_days)]
    remember_stops_for: Duration,

    /// Time without progress after which a rollout is reported as stuck, 1s–1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = up_to_an_hour)]
    progress_deadline: Duration,

    /// Maximum number of extra replicas during a rollout, in percent, 1–100
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    surge_percent: u32,

    /// Interval between status queries for each workload, 1s–10m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = status_interval)]
    status_interval: Duration,
}

impl TimingArgs {
    pub(super) fn into_timings(self) -> Result<Timings, String> {
        let mut timings = Timings {
            start_timeout: self.start_timeout,
            fence: self.fence,
            remember_stops_for: self.remember_stops_for,
            progress_deadline: self.progress_deadline,
            surge_percent: self.surge_percent,
            status_interval: self.status_interval,
            ..Timings::default()
        };
        let liveness = &mut timings.liveness;
        liveness.settling_period = self.settling_period;
        liveness.lost_after = self.host_lost_after;
        // A host becomes suspect before it is lost and is probed a few times in between.
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

fn one_to_90_days(text: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(24 * 3600);
    value::duration_in(text, day..=day * 90)
}

fn up_to_a_minute(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(60))
}

fn up_to_an_hour(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(3600))
}
