//! Finds hosts by their heartbeats: there is no other way.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_sdk::bus::Bus;
use berth_sdk::grpc::Channel;
use berth_sdk::proto::{HostHeartbeat, WorkloadState};
use berth_sdk::scheduler::{ClientError, Fleet, FleetEvent, FleetOptions, HostClient, Status};
use tokio::time::{Instant, timeout_at};

use crate::args::TargetArgs;
use crate::failure::Failure;
use crate::print::remark;

/// How hosts are reached.
#[derive(Clone)]
pub enum Reach {
    /// Each by its id.
    Bus(Bus),
    /// One, by its address.
    Grpc(Channel),
}

impl Reach {
    /// The bus, for what there is no call for otherwise.
    pub fn bus(self) -> Result<Bus, Failure> {
        match self {
            Self::Bus(bus) => Ok(bus),
            Self::Grpc(_) => Err(Failure::Usage(
                "gRPC has no call by which hosts are found; leave out --grpc-url".to_owned(),
            )),
        }
    }
}

/// The hosts that are heard of in this time, or until there are enough.
pub async fn hosts(
    bus: Bus,
    listen: Duration,
    enough: Option<usize>,
) -> Result<Vec<HostHeartbeat>, Failure> {
    let mut joining = Joining::listen(bus, listen).await?;
    let mut hosts = Vec::new();
    while enough.is_none_or(|enough| hosts.len() < enough) {
        match joining.next().await {
            Some(host) => hosts.push(host),
            None => break,
        }
    }
    if hosts.is_empty() {
        Err(Failure::NoHosts(listen))
    } else {
        Ok(hosts)
    }
}

/// The host that is named, or the first that is heard of.
pub async fn any_host(reach: Reach, target: &TargetArgs) -> Result<HostClient, Failure> {
    if let Some(only) = named(&reach, target)? {
        return Ok(only);
    }
    let bus = reach.clone().bus()?;
    let hosts = hosts(bus, target.listen.listen, Some(1)).await?;
    match hosts.first() {
        Some(host) => client(reach, &host.id),
        None => Err(Failure::NoHosts(target.listen.listen)),
    }
}

/// The host that is named, or the first heard of that knows the workload, and what it says of it.
pub async fn host_of(
    reach: Reach,
    id: &str,
    target: &TargetArgs,
) -> Result<(HostClient, Status), Failure> {
    if let Some(client) = named(&reach, target)? {
        let status = client
            .status(id)
            .await
            .map_err(|source| failed(&client, source))?;
        return Ok((client, status));
    }
    let mut joining = Joining::listen(reach.clone().bus()?, target.listen.listen).await?;
    let mut asked = 0;
    while let Some(host) = joining.next().await {
        let client = client(reach.clone(), &host.id)?;
        asked += 1;
        match client.status(id).await {
            Ok(status) if status.state != WorkloadState::NotFound => return Ok((client, status)),
            Ok(_) => {}
            Err(error) => eprintln!("warning: host {} could not be asked: {error}", host.id),
        }
    }
    match asked {
        0 => Err(Failure::NoHosts(target.listen.listen)),
        hosts => Err(Failure::NotFound {
            id: id.to_owned(),
            hosts,
        }),
    }
}

/// The host that is meant without having to be found.
pub fn named(reach: &Reach, target: &TargetArgs) -> Result<Option<HostClient>, Failure> {
    match (reach, &target.host) {
        (Reach::Grpc(channel), host_id) => {
            let client = HostClient::over_grpc(channel.clone(), host_id.clone());
            Ok(Some(client))
        }
        (Reach::Bus(_), Some(host_id)) => client(reach.clone(), host_id).map(Some),
        (Reach::Bus(_), None) => Ok(None),
    }
}

/// The host with this id.
pub fn client(reach: Reach, host: &str) -> Result<HostClient, Failure> {
    match reach {
        Reach::Bus(bus) => HostClient::new(bus, host).map_err(|source| Failure::Host {
            host: host.to_owned(),
            source,
        }),
        Reach::Grpc(channel) => Ok(HostClient::over_grpc(channel, Some(host.to_owned()))),
    }
}

pub fn failed(client: &HostClient, source: ClientError) -> Failure {
    Failure::Host {
        host: client.host_id().to_owned(),
        source,
    }
}

/// Hosts in the order in which they are heard of.
struct Joining {
    events: berth_sdk::scheduler::FleetEvents,
    fleet: Fleet,
    seen: BTreeSet<String>,
    until: Instant,
}

impl Joining {
    async fn listen(bus: Bus, listen: Duration) -> Result<Self, Failure> {
        remark(&format!(
            "listening for heartbeats, up to {} s",
            listen.as_secs_f64()
        ));
        let (fleet, events) = Fleet::watch(bus, FleetOptions::default()).await?;
        Ok(Self {
            events,
            fleet,
            seen: BTreeSet::new(),
            until: Instant::now() + listen,
        })
    }

    async fn next(&mut self) -> Option<HostHeartbeat> {
        loop {
            match timeout_at(self.until, self.events.next()).await.ok()?? {
                FleetEvent::Joined { host } if self.seen.insert(host.heartbeat.id.clone()) => {
                    return Some(host.heartbeat);
                }
                FleetEvent::Missed { .. } => {
                    let mut hosts = self.fleet.hosts().into_iter();
                    let new = hosts.find(|host| !self.seen.contains(&host.heartbeat.id));
                    if let Some(host) = new {
                        self.seen.insert(host.heartbeat.id.clone());
                        return Some(host.heartbeat);
                    }
                }
                _ => {}
            }
        }
    }
}
