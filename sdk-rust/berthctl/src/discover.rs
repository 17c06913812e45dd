//! Discovery of hosts by their heartbeats.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_sdk::bus::Bus;
use berth_sdk::grpc::Channel;
use berth_sdk::proto::{HostHeartbeat, WorkloadState};
use berth_sdk::scheduler::{ClientError, Fleet, FleetEvent, FleetOptions, HostClient, Status};
use tokio::time::{Instant, timeout_at};

use crate::args::{DEFAULT_LISTEN, TargetArgs};
use crate::failure::Failure;
use crate::print::note;

/// Connection to hosts.
#[derive(Clone)]
pub enum Connection {
    /// To all hosts on the bus.
    Bus(Bus),
    /// To one host.
    Grpc(Channel),
}

impl Connection {
    /// Returns the bus; fails over gRPC, where the command is not supported.
    pub fn bus(self) -> Result<Bus, Failure> {
        match self {
            Self::Bus(bus) => Ok(bus),
            Self::Grpc(_) => Err(Failure::Usage(
                "cannot discover hosts over gRPC; omit --grpc-url".to_owned(),
            )),
        }
    }
}

/// Time without a further host after which all hosts with the extension `discover` have replied:
/// they reply within 1 s.
const QUIET: Duration = Duration::from_secs(1);

/// Returns the hosts that reply to discovery: waits until none has been found for [`QUIET`], or
/// until `wait` is over if it is given, or for the first `limit` hosts.
pub async fn hosts(
    bus: Bus,
    wait: Option<Duration>,
    limit: Option<usize>,
) -> Result<Vec<HostHeartbeat>, Failure> {
    let longest = wait.unwrap_or(DEFAULT_LISTEN);
    let mut discovery = Discovery::start(bus, longest).await?;
    let mut hosts = Vec::new();
    while limit.is_none_or(|limit| hosts.len() < limit) {
        if wait.is_none() && !hosts.is_empty() {
            discovery.end_by(QUIET);
        }
        match discovery.next().await {
            Some(host) => hosts.push(host),
            None => break,
        }
    }
    if hosts.is_empty() {
        Err(Failure::NoHosts(longest))
    } else {
        Ok(hosts)
    }
}

/// Returns the given host, or the first one discovered.
pub async fn select_host(
    connection: Connection,
    target: &TargetArgs,
) -> Result<HostClient, Failure> {
    if let Some(host) = given_host(&connection, target)? {
        return Ok(host);
    }
    let bus = connection.clone().bus()?;
    let hosts = hosts(bus, Some(target.listen.listen), Some(1)).await?;
    match hosts.first() {
        Some(host) => client(connection, &host.id),
        None => Err(Failure::NoHosts(target.listen.listen)),
    }
}

/// Returns the given host, or the first one discovered that has the workload, with its status.
pub async fn host_of(
    connection: Connection,
    id: &str,
    target: &TargetArgs,
) -> Result<(HostClient, Status), Failure> {
    if let Some(client) = given_host(&connection, target)? {
        let status = client
            .status(id)
            .await
            .map_err(|source| host_failure(&client, source))?;
        return Ok((client, status));
    }
    let mut discovery = Discovery::start(connection.clone().bus()?, target.listen.listen).await?;
    let mut hosts = 0;
    while let Some(host) = discovery.next().await {
        let client = client(connection.clone(), &host.id)?;
        hosts += 1;
        match client.status(id).await {
            Ok(status) if status.state != WorkloadState::NotFound => return Ok((client, status)),
            Ok(_) => {}
            Err(error) => eprintln!("warning: cannot query host {}: {error}", host.id),
        }
    }
    match hosts {
        0 => Err(Failure::NoHosts(target.listen.listen)),
        hosts => Err(Failure::NotFound {
            id: id.to_owned(),
            hosts,
        }),
    }
}

/// Returns the host given by the flags, if any.
pub fn given_host(
    connection: &Connection,
    target: &TargetArgs,
) -> Result<Option<HostClient>, Failure> {
    match (connection, &target.host) {
        (Connection::Grpc(channel), host_id) => {
            let client = HostClient::over_grpc(channel.clone(), host_id.clone());
            Ok(Some(client))
        }
        (Connection::Bus(_), Some(host_id)) => client(connection.clone(), host_id).map(Some),
        (Connection::Bus(_), None) => Ok(None),
    }
}

/// Creates a client for the host with this ID.
pub fn client(connection: Connection, host: &str) -> Result<HostClient, Failure> {
    match connection {
        Connection::Bus(bus) => HostClient::new(bus, host).map_err(|source| Failure::Host {
            host: host.to_owned(),
            source,
        }),
        Connection::Grpc(channel) => Ok(HostClient::over_grpc(channel, Some(host.to_owned()))),
    }
}

pub fn host_failure(client: &HostClient, source: ClientError) -> Failure {
    Failure::Host {
        host: client.host_id().to_owned(),
        source,
    }
}

/// Yields hosts in the order of their first heartbeats, until a deadline.
struct Discovery {
    events: berth_sdk::scheduler::FleetEvents,
    fleet: Fleet,
    yielded: BTreeSet<String>,
    deadline: Instant,
    /// Latest deadline.
    end: Instant,
}

impl Discovery {
    async fn start(bus: Bus, listen: Duration) -> Result<Self, Failure> {
        note(&format!(
            "asking for hosts, and listening for heartbeats for up to {} s",
            listen.as_secs_f64()
        ));
        let (fleet, events) = Fleet::watch(bus, FleetOptions::default()).await?;
        Ok(Self {
            events,
            fleet,
            yielded: BTreeSet::new(),
            deadline: Instant::now() + listen,
            end: Instant::now() + listen,
        })
    }

    /// Moves the deadline to `time` from now, unless it is earlier.
    fn end_by(&mut self, time: Duration) {
        self.deadline = self.end.min(Instant::now() + time);
    }

    async fn next(&mut self) -> Option<HostHeartbeat> {
        loop {
            match timeout_at(self.deadline, self.events.next()).await.ok()?? {
                FleetEvent::Joined { host } if self.yielded.insert(host.heartbeat.id.clone()) => {
                    return Some(host.heartbeat);
                }
                FleetEvent::Missed { .. } => {
                    let mut hosts = self.fleet.hosts().into_iter();
                    let new = hosts.find(|host| !self.yielded.contains(&host.heartbeat.id));
                    if let Some(host) = new {
                        self.yielded.insert(host.heartbeat.id.clone());
                        return Some(host.heartbeat);
                    }
                }
                _ => {}
            }
        }
    }
}
