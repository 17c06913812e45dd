//! `fleet`: simulated hosts on any broker, for people who develop a scheduler by hand.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::run_args::stop_on_signal;
use super::{TROUBLE, USAGE, complain, complain_of, say};
use crate::check::pattern::suggestion;
use crate::scheduler::behavior::Behavior;
use crate::scheduler::journal::{Entry, EventKind, Journal};
use crate::scheduler::simulated_host::{HostFlavor, HostPlan, SimulatedHost};
use crate::testbed::broker;
use crate::testbed::broker::BrokerChoice;

/// How often what happened is printed.
const PRINT_EVERY: Duration = Duration::from_millis(100);
/// More than this in one process is another tool's business.
const MAX_HOSTS: u16 = 2_000;

/// Flags of `fleet`.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// The broker; without it one is started and its URL printed
    #[arg(long, value_name = "URL", env = "BERTH_NATS_URL")]
    nats_url: Option<String>,
    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_HOSTS)))]
    hosts: u16,
    /// How they behave, in turn; repeatable [default: steady]; `list` to see them all
    #[arg(long, value_name = "NAME")]
    personality: Vec<String>,
    /// Their host group
    #[arg(long, value_name = "NAME", default_value = "default")]
    host_group: String,
    /// Look like `wash host` 2.7.0 instead of `berth-host`
    #[arg(long)]
    wash: bool,
    /// Seconds between two heartbeats
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=30))]
    heartbeat_s: u64,
    /// Say nothing of what the hosts get
    #[arg(short, long)]
    quiet: bool,
}

/// Runs a fleet until a signal ends it.
pub async fn run(arguments: FleetArgs) -> u8 {
    if arguments.personality.iter().any(|name| name == "list") {
        let lines = Behavior::ALL
            .iter()
            .map(|one| format!("{:<12} {}\n", one.name(), one.what()));
        say(&lines.collect::<String>());
        return 0;
    }
    let mut characters = Vec::new();
    for name in &arguments.personality {
        match Behavior::named(name) {
            Some(personality) => characters.push(personality),
            None => {
                let near = suggestion(name, Behavior::ALL.iter().map(|one| one.name()));
                return complain_of(&format!("there is no personality `{name}`{near}"), USAGE);
            }
        }
    }
    if characters.is_empty() {
        characters.push(Behavior::Steady);
    }
    let choice = arguments
        .nats_url
        .clone()
        .map_or(BrokerChoice::Embedded, BrokerChoice::Url);
    let broker = match broker::start(&choice).await {
        Ok(broker) => broker,
        Err(error) => return complain(&error, TROUBLE),
    };
    if arguments.nats_url.is_none() {
        say(&format!("broker at {}\n", broker.url));
    }
    let stop = CancellationToken::new();
    let signals =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())));
    let journal = Journal::default();
    let mut lives = tokio::task::JoinSet::new();
    for (number, character) in (0..arguments.hosts).zip(characters.into_iter().cycle()) {
        let name = format!("{}-{number}", character.name());
        let mut plan = character.dress(HostPlan::new(&name, &arguments.host_group));
        plan.beat_every = Duration::from_secs(arguments.heartbeat_s);
        if arguments.wash {
            plan.look = HostFlavor::Wash;
        }
        let host = match SimulatedHost::bring_up(plan, &broker.url, journal.clone()).await {
            Ok(host) => host,
            Err(error) => return complain(&error, TROUBLE),
        };
        let stop = stop.clone();
        lives.spawn(async move { character.live(&host, &stop).await });
    }
    watch(&journal, arguments.quiet, &stop).await;
    drop(signals);
    while lives.join_next().await.is_some() {}
    0
}

/// Prints what happens, and forgets it.
async fn watch(journal: &Journal, quiet: bool, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        for entry in journal.take() {
            if !quiet {
                say(&line(&entry));
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PRINT_EVERY) => {}
        }
    }
}

fn line(entry: &Entry) -> String {
    let text = match &entry.what {
        EventKind::ReceivedCommand(came) if came.command == "workload.status" => {
            return String::new();
        }
        EventKind::ReceivedCommand(came) => format!("{} {}", came.command, came.id),
        EventKind::Answered(..) => return String::new(),
        EventKind::Ran(id) => format!("runs {id}"),
        EventKind::Ended(id) => format!("ended {id}"),
        EventKind::Up => format!("up as {}", entry.host_id),
        EventKind::Down => "gone".to_owned(),
        EventKind::Frozen => "frozen".to_owned(),
        EventKind::Thawed => "goes on".to_owned(),
    };
    format!("{:<16} {}\n", entry.host, crate::report::text::clean(&text))
}
