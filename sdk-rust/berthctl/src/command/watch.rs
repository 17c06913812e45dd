//! `berthctl watch`

use std::process::ExitCode;

use berth_sdk::proto::HostHeartbeat;
use berth_sdk::scheduler::{Fleet, FleetEvent, FleetOptions, Health, Reason};
use serde_json::json;

use crate::args::{Output, WatchArgs};
use crate::discover::Reach;
use crate::failure::Failure;
use crate::print::{self, Cell, Colour};

pub async fn run(reach: Reach, args: WatchArgs, output: Output) -> Result<ExitCode, Failure> {
    let (fleet, mut events) = Fleet::watch(reach.bus()?, FleetOptions::default()).await?;
    print::remark("watching; a host shows within 15 s");
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let Some(event) = events.next().await else {
            break;
        };
        seen += 1;
        let name = |id: &str| match fleet.host(id) {
            Some(host) => host.heartbeat.friendly_name,
            None => "-".to_owned(),
        };
        show(&Told::of(event, name), output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An event as it is shown.
struct Told {
    what: &'static str,
    colour: Colour,
    host_id: String,
    name: String,
    detail: String,
    heartbeat: Option<HostHeartbeat>,
}

impl Told {
    fn of(event: FleetEvent, name: impl Fn(&str) -> String) -> Self {
        let about = |what, colour, heartbeat: HostHeartbeat, detail: String| Self {
            what,
            colour,
            host_id: heartbeat.id.clone(),
            name: heartbeat.friendly_name.clone(),
            detail,
            heartbeat: Some(heartbeat),
        };
        let without = |what, colour, host_id: String, detail: String| {
            let name = name(&host_id);
            Self {
                what,
                colour,
                host_id,
                name,
                detail,
                heartbeat: None,
            }
        };
        match event {
            FleetEvent::Joined { host } => {
                let detail = format!("{} workloads", host.heartbeat.workload_count);
                about("joined", Colour::Green, host.heartbeat, detail)
            }
            FleetEvent::Changed { host } => {
                let labels = host.heartbeat.labels.iter();
                let labels: Vec<String> = labels
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                about("changed", Colour::Green, host.heartbeat, labels.join(","))
            }
            FleetEvent::Returned { host, was } => {
                let was = if was == Health::Lost {
                    "was lost"
                } else {
                    "was suspect"
                };
                about("returned", Colour::Green, host.heartbeat, was.to_owned())
            }
            FleetEvent::Suspect { host_id, reason } => {
                without("suspect", Colour::Yellow, host_id, why(reason))
            }
            FleetEvent::Lost { host_id, reason } => {
                without("lost", Colour::Red, host_id, why(reason))
            }
            FleetEvent::Missed { events } => {
                let detail = format!("{events} events came too fast to be shown");
                without("missed", Colour::Yellow, String::new(), detail)
            }
            other => without("other", Colour::Yellow, String::new(), format!("{other:?}")),
        }
    }
}

fn why(reason: Reason) -> String {
    match reason {
        Reason::NoResponders => "nobody listens under its id",
        Reason::Silent => "it listens and says nothing",
        Reason::Restarted => "another process has taken its id",
        _ => "for a reason that this berthctl does not know",
    }
    .to_owned()
}

fn show(told: &Told, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => print::json_line(&json!({
            "event": told.what,
            "hostId": told.host_id,
            "detail": told.detail,
            "heartbeat": told.heartbeat,
        }))?,
        Output::Table => {
            let what = Cell::coloured(told.what, told.colour).shown();
            let gap = " ".repeat(10usize.saturating_sub(told.what.len()));
            let text = format!("{}  {}  {}", told.name, told.host_id, told.detail);
            print::line(&format!("{what}{gap}{}", print::plain(&text)))?;
        }
    }
    Ok(())
}
