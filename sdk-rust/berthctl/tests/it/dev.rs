//! `berthctl dev`, as somebody sees it who tries it: a manifest, an answer, a host that dies, Ctrl-C.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::guest;
use berth_conformance::registry::{Artifact, Registry};
use berth_conformance::role::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Ended, berthctl};

/// By when what must come has come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A `berthctl dev` that is ended when the test is.
struct Dev {
    child: Child,
    url: String,
    stderr: BufReader<ChildStderr>,
}

impl Dev {
    fn over(manifests: &Path, registry: &str) -> Self {
        Self::with_variables([], manifests, registry)
    }

    fn with_variables<const N: usize>(
        variables: [(&str, &str); N],
        manifests: &Path,
        registry: &str,
    ) -> Self {
        let manifests = manifests.to_str().unwrap();
        let flags = ["--nats-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"];
        let mut child = berthctl(
            "nats://not.asked.for",
            &["dev", manifests, "--insecure-registry", registry],
        )
        .args(flags)
        .envs(variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let url = first.strip_prefix("broker").unwrap_or_else(|| {
            let mut said = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            panic!("{said} (it needs berth-host and berth-scheduler beside berthctl: cargo build)")
        });
        Self {
            url: url.trim().to_owned(),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The processes that it has started, by the names of their programs.
    fn children(&self, program: &str) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let all: String = threads
            .map(|it| of(format!("{}/children", it.unwrap().path().display())))
            .chain([of(path)])
            .collect();
        let mut pids: Vec<i32> = all
            .split_whitespace()
            .map(|it| it.parse().unwrap())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        let named = |pid: &i32| {
            of(format!("/proc/{pid}/cmdline"))
                .split('\0')
                .next()
                .is_some_and(|it| it.ends_with(program))
        };
        pids.into_iter().filter(named).map(Pid::from_raw).collect()
    }

    fn hosts(&self) -> Vec<u16> {
        let hosts = ["hosts", "--listen=3", "-o=json"];
        let hosts = Ended::of(berthctl(&self.url, &hosts).output().unwrap());
        if hosts.code != 0 {
            return Vec::new();
        }
        let ports = hosts.json().as_array().unwrap().clone();
        ports
            .iter()
            .map(|host| u16::try_from(host["httpPort"].as_u64().unwrap()).unwrap())
            .collect()
    }

    fn said(&mut self, what: &str) {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {
            if line.contains(what) {
                return;
            }
            line.clear();
        }
        panic!("it never said {what:?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It ends its children; killed, it could not.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_manifest_is_run_on_all_hosts_outlives_one_and_nothing_is_left_behind() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = runtime.block_on(Registry::start()).unwrap();
    registry.push(
        "hello",
        "1",
        Artifact::wasm(guest::image(Role::Hello).unwrap()),
    );
    let manifests = tempfile::tempdir().unwrap();
    let image = registry.reference("hello", "1");
    std::fs::write(manifests.path().join("hello.yaml"), manifest(&image)).unwrap();

    let mut dev = Dev::over(manifests.path(), registry.authority());
    // A process has no command line for a moment after it was started.
    until(|| dev.children("berth-host").len() == 2 && dev.children("berth-scheduler").len() == 1);
    let hosts = dev.children("berth-host");
    let mut all = [hosts.clone(), dev.children("berth-scheduler")].concat();
    until(|| dev.hosts().iter().filter(|port| answers(**port)).count() == 2);

    kill(hosts[0], Signal::SIGKILL).unwrap();
    dev.said("has ended: signal: 9");
    // The one that is left runs both replicas.
    let status = manifests
        .path()
        .join(".berth/default/workloaddeployments/hello.yaml");
    let both_ready = || {
        std::fs::read_to_string(&status)
            .unwrap()
            .contains("ready: 2")
    };
    until(|| dev.hosts().into_iter().any(answers) && both_ready());

    kill(dev.pid(), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    dev.stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(0), "{rest}");
    all.retain(|pid| kill(*pid, None).is_ok());
    assert_eq!(all, [], "left behind");
}

#[test]
fn variables_of_whoever_runs_it_do_not_reach_the_hosts() {
    let manifests = tempfile::tempdir().unwrap();
    let variables = [
        ("BERTH_HOST_ID", "one-for-both"),
        ("BERTH_NATS_CREDS", "/not/there.creds"),
    ];
    let dev = Dev::with_variables(variables, manifests.path(), "not.asked.for");
    until(|| dev.hosts().len() == 2);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let ended = berthctl("nats://not.asked.for", &["dev", dir, "--nats-addr", &addr])
        .output()
        .unwrap();
    let ended = Ended::of(ended).with(2);
    assert!(
        ended.err.contains(&addr) && ended.err.contains("--nats-addr"),
        "{ended:?}"
    );
}

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: runtime.wasmcloud.dev/v1alpha1
kind: WorkloadDeployment
metadata: {{name: hello}}
spec:
  replicas: 2
  template:
    spec:
      components:
      - {{name: hello, image: {image:?}}}
      hostInterfaces:
      - {{namespace: wasi, package: http, interfaces: [incoming-handler], config: {{host: hello.localhost}}}}
"
    )
}

fn answers(port: u16) -> bool {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    get().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Asks again and again; the question takes the time it takes to listen for hosts.
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}");
    }
}
