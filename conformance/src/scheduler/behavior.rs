//! Behaviors of simulated hosts over time, for manual tests of a scheduler.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::simulated_host::{CommandRule, HostConfig, HostFlavor, Reaction, SimulatedHost};

macro_rules! behaviors {
    ($($variant:ident $name:literal $description:literal;)*) => {
        /// Behavior of a simulated host over time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behavior {
            $(#[doc = $description] $variant,)*
        }

        impl Behavior {
            /// All behaviors.
            pub const ALL: &[Behavior] = &[$(Behavior::$variant,)*];

            /// Name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Behavior::$variant => $name,)* }
            }

            /// Description in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Behavior::$variant => $description,)* }
            }
        }
    };
}

behaviors! {
    Steady "steady" "Executes every command correctly.";
    Slow "slow" "Takes 30 s for each start.";
    Flapping "flapping" "Disconnects for 5 s every 15 s; its workloads keep running.";
    Frozen "frozen" "Stops all activity after 20 s, with its connection open.";
    Gone "gone" "Exits after 20 s, with all its workloads.";
    Returning "returning" "Disconnects after 20 s for one minute, and returns with all its workloads.";
    Lying "lying" "Reports RUNNING for every status request, and low CPU usage.";
    Refusing "refusing" "Replies to every start with ERROR.";
    Restarting "restarting" "Restarts every 30 s with a new id.";
    Garbage "garbage" "Replies to every start with bytes that are not a message.";
}

/// Duration of a slow start, within the time limit for a start.
const SLOW_START: Duration = Duration::from_secs(30);
/// Time for which a host is healthy before its fault begins.
const HEALTHY_FOR: Duration = Duration::from_secs(20);

impl Behavior {
    /// Returns the behavior with that name.
    pub fn named(name: &str) -> Option<Behavior> {
        Behavior::ALL
            .iter()
            .copied()
            .find(|behavior| behavior.name() == name)
    }

    /// Applies the part of the behavior that a host has from its start.
    pub fn configure(self, config: HostConfig) -> HostConfig {
        match self {
            Behavior::Slow => config.start_duration(SLOW_START),
            Behavior::Lying => config.heartbeat_field("systemCpuUsage", json!(0.1)),
            Behavior::Restarting => config.flavor(HostFlavor::Wash),
            _ => config,
        }
    }

    /// Applies the behavior to `host` until `stop` is cancelled.
    pub async fn run(self, host: &SimulatedHost, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.apply(host) => stop.cancelled().await,
        }
    }

    async fn apply(self, host: &SimulatedHost) {
        match self {
            Behavior::Steady | Behavior::Slow => {}
            Behavior::Flapping => loop {
                tokio::time::sleep(Duration::from_secs(15)).await;
                host.disconnect();
                tokio::time::sleep(Duration::from_secs(5)).await;
                // After a failure, the next iteration tries again.
                let _ = host.reconnect().await;
            },
            Behavior::Frozen => {
                tokio::time::sleep(HEALTHY_FOR).await;
                host.freeze();
            }
            Behavior::Gone => {
                tokio::time::sleep(HEALTHY_FOR).await;
                host.kill();
            }
            Behavior::Returning => {
                tokio::time::sleep(HEALTHY_FOR).await;
                host.disconnect();
                tokio::time::sleep(Duration::from_secs(60)).await;
                let _ = host.reconnect().await;
            }
            Behavior::Lying => {
                let body =
                    json!({ "workloadStatus": { "workloadState": "WORKLOAD_STATE_RUNNING" } });
                let reply = Reaction::Reply(body.to_string().into());
                host.add_rule(CommandRule::on("workload.status", reply));
            }
            Behavior::Refusing => {
                let failure = Reaction::Fail {
                    message: "this host refuses every start".to_owned(),
                    recorded: false,
                };
                host.add_rule(CommandRule::on("workload.start", failure));
            }
            Behavior::Restarting => loop {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let _ = host.restart().await;
            },
            Behavior::Garbage => {
                let reply = Reaction::Reply(bytes::Bytes::from_static(b"\xff\xfe{garbage"));
                host.add_rule(CommandRule::on("workload.start", reply));
            }
        }
    }
}
