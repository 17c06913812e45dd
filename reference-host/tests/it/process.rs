//! The program itself, on a bus: started, commanded, told to end.

use std::process::Stdio;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{LocalResources, WorkloadState};
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::role::Role;
use crate::stage::{Stage, environment, within, workload};

/// A host as a process of its own.
struct Process {
    child: Child,
    client: HostClient,
    _broker: Broker,
}

impl Process {
    async fn start(stage: &Stage) -> Self {
        let broker = Broker::start(BrokerOptions::default()).await.unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_berth-host"))
            .args(["--nats-url", &broker.url(), "--host-id", "the-host"])
            .args(["--http-addr", "127.0.0.1:0"])
            .args(["--insecure-registry", stage.registry.authority()])
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
        within(process.serves()).await;
        process
    }

    async fn serves(&self) {
        while self.client.heartbeat().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn reached(&self, id: &str, state: WorkloadState) -> Status {
        loop {
            let status = self.client.status(id).await.unwrap();
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_started_served_and_stopped() {
    let stage = Stage::set().await;
    let process = Process::start(&stage).await;
    let client = &process.client;
    let hello = stage.http(Role::Hello, "hello.test", LocalResources::default());
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
    let ingress = ([127, 0, 0, 1], u16::try_from(heartbeat.http_port).unwrap()).into();
    let answer = within(crate::http::get(ingress, "hello.test", "/")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    within(client.stop("one")).await.unwrap();
    within(process.reached("one", WorkloadState::NotFound)).await;
    assert_eq!(
        within(crate::http::get(ingress, "hello.test", "/"))
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_workload_says_why() {
    let stage = Stage::set().await;
    let process = Process::start(&stage).await;
    let module = stage.http(Role::CoreModule, "a.test", LocalResources::default());
    let error = within(process.client.start("one", &module))
        .await
        .unwrap_err();
    assert!(matches!(&error, ClientError::Refused { .. }), "{error:?}");
    let status = within(process.client.status("one")).await.unwrap();
    assert_eq!(status.state, WorkloadState::Error);
    assert!(status.message.contains("core-module"), "{}", status.message);
    let hello = stage.http(Role::Hello, "a.test", LocalResources::default());
    assert!(within(process.client.start("one", &hello)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_shows_its_end() {
    let stage = Stage::set().await;
    let process = Process::start(&stage).await;
    for (id, role, state) in [
        ("ok", Role::ServiceOk, WorkloadState::Completed),
        ("trap", Role::ServiceTrap, WorkloadState::Error),
    ] {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(stage.service(role, 0, environment("127.0.0.1:1/x")));
        within(process.client.start(id, &spec)).await.ok();
        within(process.reached(id, state)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_end_it_well_even_while_guests_spin() {
    let stage = Stage::set().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut process = Process::start(&stage).await;
        for id in ["one", "two", "three"] {
            let mut spec = workload(vec![], vec![]);
            spec.service = Some(stage.service(Role::ServiceSpin, 0, environment("127.0.0.1:1/x")));
            within(process.client.start(id, &spec)).await.unwrap();
        }
        process.signal(signal);
        let status = within(process.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

/// Files that are open and memory in use, of another process.
#[cfg(target_os = "linux")]
fn held(pid: u32) -> (usize, usize) {
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
async fn what_a_workload_held_is_free_again() {
    let stage = Stage::set().await;
    let process = Process::start(&stage).await;
    let client = &process.client;
    let mut spec = stage.http(Role::Hello, "hello.test", LocalResources::default());
    spec.service = Some(stage.service(Role::ServiceSpin, 0, environment("127.0.0.1:1/x")));
    spec.volumes.push(berth_sdk::proto::Volume {
        name: "scratch".into(),
        volume_type: None,
    });
    let cycle = async || {
        within(client.start("one", &spec)).await.unwrap();
        within(client.stop("one")).await.unwrap();
        within(process.reached("one", WorkloadState::NotFound)).await;
    };
    for _ in 0..10 {
        cycle().await;
    }
    let pid = process.child.id().unwrap();
    let (files_before, kib_before) = held(pid);
    for _ in 0..50 {
        cycle().await;
    }
    let (files, kib) = held(pid);
    // A connection to the registry may come or go; fifty workloads that stayed would be far more.
    assert!(
        files < files_before + 10,
        "{files_before} files, then {files}"
    );
    assert!(
        kib < kib_before + (20 << 10),
        "{kib_before} KiB, then {kib}"
    );
}
