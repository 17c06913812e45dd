//! Runs the checks that need only the gRPC calls, against the reference host without NATS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::run_with_reports;
use crate::child_guard::ChildGuard;
use crate::test_pipeline::Counters;
use crate::test_pipeline::step::{Context, StepError, suite};
use crate::{cargo, wait};

/// Sections of these checks.
const SECTIONS: [&str; 7] = [
    "start",
    "status",
    "stop",
    "services",
    "images",
    "http",
    "resources",
];

/// Time limit until the host listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tests the reference host over gRPC.
pub(super) fn run(context: &Context) -> Result<Counters, StepError> {
    let (grpc, http) = (free_address()?, free_address()?);
    let program = cargo::program(&context.root, "debug", "berth-host");
    let mut host = Command::new(&program);
    host.args(["--no-nats", "--grpc-addr", &grpc.to_string()])
        .args(["--http-addr", &http.to_string(), "--host-name", "127.0.0.1"])
        // Only the suite knows the port of its registry.
        .arg("--allow-insecure-registries")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _host = ChildGuard::spawn(&mut host).map_err(|source| StepError::Program {
        program: program.display().to_string(),
        source,
    })?;
    if wait::wait_for(PATIENCE, || TcpStream::connect(grpc).ok()).is_none() {
        println!("the host is not listening on {grpc}");
        return Ok(Counters::FAILED);
    }
    let mut suite = suite(context, "host");
    suite.args(["--grpc-url", &format!("http://{grpc}")]);
    suite.args(["--http-addr", &http.to_string()]);
    for section in SECTIONS {
        suite.args(["--run", &format!("{section}/*")]);
    }
    run_with_reports(&mut suite, context, "grpc")
}

/// Returns an address that is free now.
fn free_address() -> Result<SocketAddr, StepError> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(StepError::Port)
}
