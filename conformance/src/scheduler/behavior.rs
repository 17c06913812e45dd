//! Simulated hosts with a character, for people who develop a scheduler by hand.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::simulated_host::{Act, HostFlavor, HostPlan, Rule, SimulatedHost};

macro_rules! personalities {
    ($($variant:ident $name:literal $what:literal;)*) => {
        /// How a simulated host behaves over time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behavior {
            $(#[doc = $what] $variant,)*
        }

        impl Behavior {
            /// Every one.
            pub const ALL: &[Behavior] = &[$(Behavior::$variant,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Behavior::$variant => $name,)* }
            }

            /// What it does, in one sentence.
            pub const fn what(self) -> &'static str {
                match self { $(Behavior::$variant => $what,)* }
            }
        }
    };
}

personalities! {
    Steady "steady" "Does everything well.";
    Slow "slow" "Takes half a minute over each start.";
    Flapping "flapping" "Is cut off for 5 s every 15 s, and what runs on it runs on.";
    Frozen "frozen" "Stops doing anything after 20 s, with its connection open.";
    Gone "gone" "Ends after 20 s, and with it all that runs on it.";
    Returning "returning" "Is cut off for a minute after 20 s, and comes back with all that ran on it.";
    Lying "lying" "Answers every status with RUNNING and reports an empty machine.";
    Refusing "refusing" "Answers every start with ERROR.";
    Restarting "restarting" "Ends every 30 s and starts again under a new id.";
    Garbage "garbage" "Answers every start with bytes that are no message.";
}

/// Half a minute: within the deadline of a start, and longer than anyone likes.
const SLOW_START: Duration = Duration::from_secs(30);
/// How long a host is well before it is not.
const WELL: Duration = Duration::from_secs(20);

impl Behavior {
    /// The personality of that name.
    pub fn named(name: &str) -> Option<Behavior> {
        Behavior::ALL
            .iter()
            .copied()
            .find(|personality| personality.name() == name)
    }

    /// The host as it comes up.
    pub fn dress(self, plan: HostPlan) -> HostPlan {
        match self {
            Behavior::Slow => plan.slow(SLOW_START),
            Behavior::Lying => plan.fact("systemCpuUsage", json!(0.1)),
            Behavior::Restarting => plan.look(HostFlavor::Wash),
            _ => plan,
        }
    }

    /// Lives its life until it is cancelled.
    pub async fn live(self, host: &SimulatedHost, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.act(host) => stop.cancelled().await,
        }
    }

    async fn act(self, host: &SimulatedHost) {
        match self {
            Behavior::Steady | Behavior::Slow => {}
            Behavior::Flapping => loop {
                tokio::time::sleep(Duration::from_secs(15)).await;
                host.cut_off();
                tokio::time::sleep(Duration::from_secs(5)).await;
                // The next turn tries again.
                let _ = host.come_back().await;
            },
            Behavior::Frozen => {
                tokio::time::sleep(WELL).await;
                host.freeze();
            }
            Behavior::Gone => {
                tokio::time::sleep(WELL).await;
                host.kill();
            }
            Behavior::Returning => {
                tokio::time::sleep(WELL).await;
                host.cut_off();
                tokio::time::sleep(Duration::from_secs(60)).await;
                let _ = host.come_back().await;
            }
            Behavior::Lying => {
                let body =
                    json!({ "workloadStatus": { "workloadState": "WORKLOAD_STATE_RUNNING" } });
                let answer = Act::Response(body.to_string().into());
                host.script(Rule::on("workload.status", answer));
            }
            Behavior::Refusing => {
                let message = "this host refuses everything".to_owned();
                let act = Act::Fail {
                    message,
                    known: false,
                };
                host.script(Rule::on("workload.start", act));
            }
            Behavior::Restarting => loop {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let _ = host.restart().await;
            },
            Behavior::Garbage => {
                let act = Act::Response(bytes::Bytes::from_static(b"\xff\xfe{garbage"));
                host.script(Rule::on("workload.start", act));
            }
        }
    }
}
