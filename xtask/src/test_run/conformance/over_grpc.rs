//! The checks that ask for nothing but what gRPC has calls for, on the reference host without NATS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::verdict;
use crate::running::Running;
use crate::test_run::{Setting, StepError, Tally, steps};
use crate::{cargo, wait};

/// The sections that hold them.
const SECTIONS: [&str; 7] = ["start", "status", "stop", "svc", "img", "http", "res"];

/// How long the host may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Judges the reference host by gRPC.
pub(super) fn judge(setting: &Setting) -> Result<Tally, StepError> {
    let (grpc, http) = (free_address()?, free_address()?);
    let program = cargo::built(&setting.root, "debug", "berth-host");
    let mut host = Command::new(&program);
    host.args(["--no-nats", "--grpc-addr", &grpc.to_string()])
        .args(["--http-addr", &http.to_string(), "--host-name", "127.0.0.1"])
        // Only the suite knows the port of its registry.
        .arg("--allow-insecure-registries")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _host = Running::begin(&mut host).map_err(|source| StepError::Program {
        program: program.display().to_string(),
        source,
    })?;
    if wait::for_some(PATIENCE, || TcpStream::connect(grpc).ok()).is_none() {
        println!("the host does not listen at {grpc}");
        return Ok(Tally::FAILED);
    }
    let mut suite = steps::suite(setting, "host");
    suite.args(["--grpc-url", &format!("http://{grpc}")]);
    suite.args(["--http-addr", &http.to_string()]);
    for section in SECTIONS {
        suite.args(["--run", &format!("{section}/*")]);
    }
    verdict(&mut suite, setting, "grpc")
}

/// An address that was free just now.
fn free_address() -> Result<SocketAddr, StepError> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(StepError::Port)
}
