//! `fleet`: simulated hosts on any broker, for manual tests of a scheduler.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::run_args::stop_on_signal;
use super::{EXIT_ERROR, EXIT_USAGE, fail, fail_with, print};
use crate::check::pattern::suggestion;
use crate::scheduler::behavior::Behavior;
use crate::scheduler::journal::{Entry, EventKind, Journal};
use crate::scheduler::simulated_host::{HostConfig, HostFlavor, SimulatedHost};
use crate::testbed::broker;
use crate::testbed::broker::BrokerChoice;

/// Interval at which new events are printed.
const PRINT_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of hosts in one process. No more are needed, because `fleet` is not a load
/// generator.
const MAX_HOSTS: u16 = 2_000;

/// Flags of `fleet`.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// URL of the broker [default: start a broker and print its URL]
    #[arg(long, value_name = "URL", env = "BERTH_NATS_URL")]
    nats_url: Option<String>,
    /// Number of hosts, 1–2000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_HOSTS))
    )]
    hosts: u16,
    /// Behavior of the hosts, or `list` to print all behaviors; repeatable: assigned to the hosts
    /// in turn [default: steady]
    #[arg(long, value_name = "NAME")]
    behavior: Vec<String>,
    /// Host group of the hosts
    #[arg(long, value_name = "NAME", default_value = "default")]
    host_group: String,
    /// Simulate `wash host` 2.7.0 instead of `berth-host`
    #[arg(long)]
    wash: bool,
    /// Heartbeat interval in seconds, 1–30
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 15,
        value_parser = clap::value_parser!(u64).range(1..=30)
    )]
    heartbeat_s: u64,
    /// Do not print events of the hosts
    #[arg(short, long)]
    quiet: bool,
}

/// Runs a fleet until a signal stops it.
pub async fn run(arguments: FleetArgs) -> u8 {
    if arguments.behavior.iter().any(|name| name == "list") {
        let lines = Behavior::ALL
            .iter()
            .map(|behavior| format!("{:<12} {}\n", behavior.name(), behavior.description()));
        print(&lines.collect::<String>());
        return 0;
    }
    let mut behaviors = Vec::new();
    for name in &arguments.behavior {
        match Behavior::named(name) {
            Some(behavior) => behaviors.push(behavior),
            None => {
                let suggestion = suggestion(name, Behavior::ALL.iter().map(|known| known.name()));
                return fail_with(
                    &format!("unknown behavior `{name}`{suggestion}"),
                    EXIT_USAGE,
                );
            }
        }
    }
    if behaviors.is_empty() {
        behaviors.push(Behavior::Steady);
    }
    let choice = arguments
        .nats_url
        .clone()
        .map_or(BrokerChoice::Embedded, BrokerChoice::Url);
    let broker = match broker::start(&choice).await {
        Ok(broker) => broker,
        Err(error) => return fail(&error, EXIT_ERROR),
    };
    if arguments.nats_url.is_none() {
        print(&format!("broker at {}\n", broker.url));
    }
    let stop = CancellationToken::new();
    let signals =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())));
    let journal = Journal::default();
    let mut hosts = tokio::task::JoinSet::new();
    for (number, behavior) in (0..arguments.hosts).zip(behaviors.into_iter().cycle()) {
        let name = format!("{}-{number}", behavior.name());
        let mut config = behavior.configure(HostConfig::new(&name, &arguments.host_group));
        config.heartbeat_interval = Duration::from_secs(arguments.heartbeat_s);
        if arguments.wash {
            config.flavor = HostFlavor::Wash;
        }
        let host = match SimulatedHost::start(config, &broker.url, journal.clone()).await {
            Ok(host) => host,
            Err(error) => return fail(&error, EXIT_ERROR),
        };
        let stop = stop.clone();
        hosts.spawn(async move { behavior.run(&host, &stop).await });
    }
    print_events(&journal, arguments.quiet, &stop).await;
    drop(signals);
    while hosts.join_next().await.is_some() {}
    0
}

/// Drains the journal and prints its events, until `stop` is cancelled.
async fn print_events(journal: &Journal, quiet: bool, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        for entry in journal.drain() {
            if !quiet {
                print(&line(&entry));
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PRINT_INTERVAL) => {}
        }
    }
}

fn line(entry: &Entry) -> String {
    let text = match &entry.kind {
        EventKind::ReceivedCommand(received) if received.command == "workload.status" => {
            return String::new();
        }
        EventKind::ReceivedCommand(received) => format!("{} {}", received.command, received.id),
        EventKind::Replied(..) => return String::new(),
        EventKind::WorkloadRunning(id) => format!("workload {id} running"),
        EventKind::WorkloadEnded(id) => format!("workload {id} ended"),
        EventKind::Connected => format!("connected as {}", entry.host_id),
        EventKind::Disconnected => "disconnected".to_owned(),
        EventKind::Frozen => "frozen".to_owned(),
        EventKind::Resumed => "resumed".to_owned(),
    };
    format!("{:<16} {}\n", entry.host, crate::report::text::clean(&text))
}
