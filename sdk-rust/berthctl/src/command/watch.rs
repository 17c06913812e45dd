//! `berthctl watch`

use std::process::ExitCode;

use berth_sdk::proto::HostHeartbeat;
use berth_sdk::scheduler::{Fleet, FleetEvent, FleetOptions, Health, Reason};
use serde_json::json;

use crate::args::{Output, WatchArgs};
use crate::discover::Connection;
use crate::failure::Failure;
use crate::print::{self, Cell, Color};

pub async fn run(
    connection: Connection,
    args: WatchArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let (fleet, mut events) = Fleet::watch(connection.bus()?, FleetOptions::default()).await?;
    print::note("watching; hosts appear within 15 s");
    let mut count = 0;
    while args.count.is_none_or(|limit| count < limit) {
        let Some(event) = events.next().await else {
            break;
        };
        count += 1;
        let name = |id: &str| match fleet.host(id) {
            Some(host) => host.heartbeat.friendly_name,
            None => "-".to_owned(),
        };
        EventRow::new(event, name).print(output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An event as printed.
struct EventRow {
    event: &'static str,
    color: Color,
    host_id: String,
    name: String,
    detail: String,
    heartbeat: Option<HostHeartbeat>,
}

impl EventRow {
    fn new(event: FleetEvent, name: impl Fn(&str) -> String) -> Self {
        let with_heartbeat = |event, color, heartbeat: HostHeartbeat, detail: String| Self {
            event,
            color,
            host_id: heartbeat.id.clone(),
            name: heartbeat.friendly_name.clone(),
            detail,
            heartbeat: Some(heartbeat),
        };
        let with_id = |event, color, host_id: String, detail: String| {
            let name = name(&host_id);
            Self {
                event,
                color,
                host_id,
                name,
                detail,
                heartbeat: None,
            }
        };
        match event {
            FleetEvent::Joined { host } => {
                let detail = format!("{} workloads", host.heartbeat.workload_count);
                with_heartbeat("joined", Color::Green, host.heartbeat, detail)
            }
            FleetEvent::Changed { host } => {
                let labels = host.heartbeat.labels.iter();
                let labels: Vec<String> = labels
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                with_heartbeat("changed", Color::Green, host.heartbeat, labels.join(","))
            }
            FleetEvent::Recovered {
                host,
                previous_health,
            } => {
                let detail = if previous_health == Health::Lost {
                    "was lost"
                } else {
                    "was suspect"
                };
                with_heartbeat("recovered", Color::Green, host.heartbeat, detail.to_owned())
            }
            FleetEvent::Suspect { host_id, reason } => {
                with_id("suspect", Color::Yellow, host_id, describe(reason))
            }
            FleetEvent::Lost { host_id, reason } => {
                with_id("lost", Color::Red, host_id, describe(reason))
            }
            FleetEvent::Missed { count } => {
                let detail = format!("{count} events missed");
                with_id("missed", Color::Yellow, String::new(), detail)
            }
            other => with_id("other", Color::Yellow, String::new(), format!("{other:?}")),
        }
    }

    fn print(&self, output: Output) -> Result<(), Failure> {
        match output {
            Output::Json => print::json_line(&json!({
                "event": self.event,
                "hostId": self.host_id,
                "detail": self.detail,
                "heartbeat": self.heartbeat,
            }))?,
            Output::Table => {
                let event = Cell::colored(self.event, self.color).render();
                let padding = " ".repeat(10usize.saturating_sub(self.event.len()));
                let text = format!("{}  {}  {}", self.name, self.host_id, self.detail);
                print::line(&format!("{event}{padding}{}", print::sanitize(&text)))?;
            }
        }
        Ok(())
    }
}

fn describe(reason: Reason) -> String {
    match reason {
        Reason::NoResponders => "no responders",
        Reason::Silent => "connected, but does not reply",
        Reason::Restarted => "another process uses its ID",
        _ => "unknown reason",
    }
    .to_owned()
}
