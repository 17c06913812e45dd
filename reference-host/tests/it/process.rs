//! The program as a process: commands over NATS, and shutdown by signals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use berth_conformance::spec::roles::Role;
use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{LocalResources, WorkloadState};
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::fixture::{
    Fixture, NO_RESTARTS, UNREACHABLE_BEACON, resources_with_beacon, within, workload,
};

/// A host process with its broker.
pub struct HostProcess {
    pub child: Child,
    pub client: HostClient,
    _broker: Broker,
}

impl HostProcess {
    pub async fn start(fixture: &Fixture) -> Self {
        Self::start_with(fixture, &[]).await
    }

    pub async fn start_with(fixture: &Fixture, args: &[&str]) -> Self {
        Self::start_in(fixture, &std::env::temp_dir(), args).await
    }

    /// Starts a host whose temporary files are in `temporary`.
    pub async fn start_in(fixture: &Fixture, temporary: &Path, args: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_berth-host"));
        program.env("TMPDIR", temporary);
        Self::start_program(program, fixture, args).await
    }

    /// Starts a host whose process has this limit of open files, which it cannot raise.
    pub async fn start_with_descriptors(fixture: &Fixture, limit: u32) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_berth-host")]);
        Self::start_program(shell, fixture, &[]).await
    }

    async fn start_program(mut program: Command, fixture: &Fixture, args: &[&str]) -> Self {
        let broker = Broker::start(BrokerOptions::default()).await.unwrap();
        let child = program
            .args(["--nats-url", &broker.url(), "--host-id", "the-host"])
            .args(["--http-addr", "127.0.0.1:0"])
            .args(["--insecure-registry", fixture.registry.authority()])
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let bus = within(Bus::connect(&ConnectOptions::to(broker.url())))
            .await
            .unwrap();
        let client = HostClient::new(bus, "the-host").unwrap();
        let process = Self {
            child,
            client,
            _broker: broker,
        };
        within(process.ready()).await;
        process
    }

    async fn ready(&self) {
        while self.client.heartbeat().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_for_state(&self, id: &str, state: WorkloadState) -> Status {
        loop {
            let status = self.client.status(id).await.unwrap();
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the address of the ingress.
    pub async fn ingress(&self) -> SocketAddr {
        let heartbeat = within(self.client.heartbeat()).await.unwrap();
        ([127, 0, 0, 1], u16::try_from(heartbeat.http_port).unwrap()).into()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_serves_and_stops_workload() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start(&fixture).await;
    let client = &process.client;
    let hello = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let started = within(client.start("one", &hello)).await.unwrap();
    assert_eq!(started.state, WorkloadState::Running);
    let heartbeat = within(client.heartbeat()).await.unwrap();
    assert_eq!(
        (heartbeat.workload_count, heartbeat.component_count),
        (1, 1)
    );
    assert!(
        heartbeat
            .imports
            .iter()
            .any(|import| import.package == "keyvalue")
    );
    let ingress = process.ingress().await;
    let response = within(crate::http::get(ingress, "hello.test", "/")).await;
    assert_eq!((response.status, response.body.as_str()), (200, "hello"));
    within(client.stop("one")).await.unwrap();
    within(process.wait_for_state("one", WorkloadState::NotFound)).await;
    assert_eq!(
        within(crate::http::get(ingress, "hello.test", "/"))
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_start_has_reason() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start(&fixture).await;
    let module = fixture.http_workload(Role::CoreModule, "a.test", LocalResources::default());
    let error = within(process.client.start("one", &module))
        .await
        .unwrap_err();
    assert!(matches!(&error, ClientError::Refused { .. }), "{error:?}");
    let status = within(process.client.status("one")).await.unwrap();
    assert_eq!(status.state, WorkloadState::Error);
    assert!(status.message.contains("core-module"), "{}", status.message);
    let hello = fixture.http_workload(Role::Hello, "a.test", LocalResources::default());
    assert!(within(process.client.start("one", &hello)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_end_of_service() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start(&fixture).await;
    for (id, role, state) in [
        ("ok", Role::ServiceOk, WorkloadState::Completed),
        ("trap", Role::ServiceTrap, WorkloadState::Error),
    ] {
        let mut spec = workload(vec![], vec![]);
        spec.service =
            Some(fixture.service(role, NO_RESTARTS, resources_with_beacon(UNREACHABLE_BEACON)));
        within(process.client.start(id, &spec)).await.ok();
        within(process.wait_for_state(id, state)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_successfully_on_signals_while_guests_spin() {
    let fixture = Fixture::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut process = HostProcess::start(&fixture).await;
        for id in ["one", "two", "three"] {
            let mut spec = workload(vec![], vec![]);
            spec.service = Some(fixture.service(
                Role::ServiceSpin,
                NO_RESTARTS,
                resources_with_beacon(UNREACHABLE_BEACON),
            ));
            within(process.client.start(id, &spec)).await.unwrap();
        }
        process.signal(signal);
        let status = within(process.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

/// Returns the number of open files and the resident memory in KiB of a process.
#[cfg(target_os = "linux")]
fn resource_usage(pid: u32) -> (usize, usize) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
    (files, kib)
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn stopped_workloads_release_their_resources() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start(&fixture).await;
    let client = &process.client;
    let mut spec = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    spec.service = Some(fixture.service(
        Role::ServiceSpin,
        NO_RESTARTS,
        resources_with_beacon(UNREACHABLE_BEACON),
    ));
    spec.volumes.push(berth_sdk::proto::Volume {
        name: "scratch".into(),
        volume_type: None,
    });
    let cycle = async || {
        within(client.start("one", &spec)).await.unwrap();
        within(client.stop("one")).await.unwrap();
        within(process.wait_for_state("one", WorkloadState::NotFound)).await;
    };
    for _ in 0..10 {
        cycle().await;
    }
    let pid = process.child.id().unwrap();
    let (files_before, kib_before) = resource_usage(pid);
    for _ in 0..50 {
        cycle().await;
    }
    let (files, kib) = resource_usage(pid);
    // Allows for registry connections; fifty leaked workloads would need far more.
    assert!(
        files < files_before + 10,
        "{files_before} files, then {files}"
    );
    assert!(
        kib < kib_before + (20 << 10),
        "{kib_before} KiB, then {kib}"
    );
}
