//! `berthctl dev`: a manifest, HTTP responses, the loss of a host, Ctrl-C.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::spec::roles::Role;
use berth_conformance::testbed::guest;
use berth_conformance::testbed::registry::{Artifact, Registry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Outcome, berthctl};

/// Maximum time to wait for a condition.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running `berthctl dev`, stopped on drop.
struct Dev {
    child: Child,
    url: String,
    stderr: BufReader<ChildStderr>,
}

impl Dev {
    fn start(manifests: &Path, registry: &str) -> Self {
        Self::with_variables([], manifests, registry)
    }

    fn with_variables<const N: usize>(
        variables: [(&str, &str); N],
        manifests: &Path,
        registry: &str,
    ) -> Self {
        let mut command = Self::command(manifests, registry);
        command.envs(variables);
        Self::spawn(command)
    }

    fn command(manifests: &Path, registry: &str) -> Command {
        let manifests = manifests.to_str().unwrap();
        let flags = ["--nats-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"];
        let mut command = berthctl(
            "nats://unused.example",
            &["dev", manifests, "--insecure-registry", registry],
        );
        command.args(flags);
        command
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let url = first.strip_prefix("broker").unwrap_or_else(|| {
            let mut stderr = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut stderr)
                .unwrap();
            panic!(
                "{stderr} (run `cargo build` first, which builds berth-host and berth-scheduler)"
            )
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

    /// Returns the child processes of `berthctl dev` that run `program`.
    fn children(&self, program: &str) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let all: String = threads
            .map(|it| read(format!("{}/children", it.unwrap().path().display())))
            .chain([read(path)])
            .collect();
        let mut pids: Vec<i32> = all
            .split_whitespace()
            .map(|it| it.parse().unwrap())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        let runs_program = |pid: &i32| {
            read(format!("/proc/{pid}/cmdline"))
                .split('\0')
                .next()
                .is_some_and(|it| it.ends_with(program))
        };
        pids.into_iter()
            .filter(runs_program)
            .map(Pid::from_raw)
            .collect()
    }

    /// Returns the HTTP ports of the hosts on the broker.
    fn http_ports(&self) -> Vec<u16> {
        let hosts = ["hosts", "--listen=3", "-o=json"];
        let hosts = Outcome::new(berthctl(&self.url, &hosts).output().unwrap());
        if hosts.code != 0 {
            return Vec::new();
        }
        let ports = hosts.json().as_array().unwrap().clone();
        ports
            .iter()
            .map(|host| u16::try_from(host["httpPort"].as_u64().unwrap()).unwrap())
            .collect()
    }

    fn wait_for_output(&mut self, text: &str) {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {
            if line.contains(text) {
                return;
            }
            line.clear();
        }
        panic!("no output with {text:?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // SIGKILL would leave the children behind.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn runs_a_manifest_survives_host_loss_and_cleans_up() {
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

    let mut dev = Dev::start(manifests.path(), registry.authority());
    // The command line of a process is empty for a moment after its start.
    wait_until(|| {
        dev.children("berth-host").len() == 2 && dev.children("berth-scheduler").len() == 1
    });
    let hosts = dev.children("berth-host");
    let mut all = [hosts.clone(), dev.children("berth-scheduler")].concat();
    wait_until(|| {
        dev.http_ports()
            .iter()
            .filter(|port| serves_http(**port))
            .count()
            == 2
    });

    kill(hosts[0], Signal::SIGKILL).unwrap();
    dev.wait_for_output("has exited: signal: 9");
    // The remaining host runs both replicas.
    let status = manifests
        .path()
        .join(".berth/default/workloaddeployments/hello.yaml");
    let both_ready = || {
        std::fs::read_to_string(&status)
            .unwrap()
            .contains("ready: 2")
    };
    wait_until(|| dev.http_ports().into_iter().any(serves_http) && both_ready());

    kill(dev.pid(), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    dev.stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(0), "{rest}");
    all.retain(|pid| kill(*pid, None).is_ok());
    assert_eq!(all, [], "processes left behind");
}

#[test]
fn berth_variables_do_not_reach_the_hosts() {
    let manifests = tempfile::tempdir().unwrap();
    let variables = [
        ("BERTH_HOST_ID", "one-for-both"),
        ("BERTH_NATS_CREDS", "/nonexistent.creds"),
    ];
    let dev = Dev::with_variables(variables, manifests.path(), "unused.example");
    wait_until(|| dev.http_ports().len() == 2);
}

#[test]
fn reports_an_address_in_use() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = occupied.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let output = berthctl("nats://unused.example", &["dev", dir, "--nats-addr", &addr])
        .output()
        .unwrap();
    let outcome = Outcome::new(output).exits_with(2);
    assert!(
        outcome.stderr.contains(&addr) && outcome.stderr.contains("--nats-addr"),
        "{outcome:?}"
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

fn serves_http(port: u16) -> bool {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    };
    get().is_ok_and(|response| response.starts_with("HTTP/1.1 200"))
}

/// Polls a condition without a pause, because each condition starts processes or reads files.
#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let started_at = Instant::now();
    while !condition() {
        assert!(started_at.elapsed() < TIMEOUT, "not within {TIMEOUT:?}");
    }
}

#[test]
fn broker_may_open_as_many_files_as_the_system_permits() {
    let manifests = tempfile::tempdir().unwrap();
    let dev = Dev::command(manifests.path(), "127.0.0.1:1");
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -S -n 100; exec \"$0\" \"$@\""])
        .arg(dev.get_program())
        .args(dev.get_args());
    for (name, value) in dev.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let dev = Dev::spawn(limited);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", dev.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = files.unwrap().split_whitespace().skip(3).collect();
    assert_ne!(numbers[0], "100", "{limits}");
}
