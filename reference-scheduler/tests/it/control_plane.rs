//! etcd and kube-apiserver for tests: child processes on random ports of the loopback, in a temporary directory. The
//! tests of the chart start them from this file, too.

use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long the processes may take to be ready. On a machine with nothing else to do it is 4 s.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// How often a start is tried: another process may have taken a port that was free a moment ago.
const START_TRIES: usize = 3;

/// What is shown of the log of a program that did not do as it should.
const LAST_LINES: usize = 8;

/// What is there, for tests that run at the same time; else what `start` makes, to be gone with the last of them.
pub fn shared<T>(there: &Mutex<Weak<T>>, mut start: impl FnMut() -> Result<T, String>) -> Arc<T> {
    let mut there = there.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = there.upgrade() {
        return shared;
    }
    let mut reasons = String::new();
    for _ in 0..START_TRIES {
        match start() {
            Ok(started) => {
                let started = Arc::new(started);
                *there = Arc::downgrade(&started);
                return started;
            }
            Err(reason) => writeln!(reasons, "{reason}").unwrap(),
        }
    }
    panic!("there is no API server:\n{reasons}");
}

/// A running API server with its etcd.
pub struct ControlPlane {
    programs: PathBuf,
    dir: tempfile::TempDir,
    // In the order in which they are killed.
    children: Vec<(&'static str, Child)>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl ControlPlane {
    /// Starts the programs in this folder and waits until they are ready.
    pub fn start(programs: PathBuf) -> Result<Self, String> {
        let mut plane = Self {
            programs,
            dir: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        };
        let [client_port, peer_port, port] = free_ports();
        plane.write_credentials(port);
        let dir = plane.dir.path().to_path_buf();
        plane.spawn("etcd", &etcd_flags(&dir, client_port, peer_port));
        plane.spawn("kube-apiserver", &api_server_flags(&dir, client_port, port));
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            // kubectl itself takes a moment, so this is no busy loop.
            let output = plane.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"], "");
            if output.status.success() {
                return Ok(plane);
            }
            if let Some(ended) = plane.ended() {
                return Err(ended);
            }
            if Instant::now() > deadline {
                return Err(format!("{}\n{}", output.stderr, plane.last_words()));
            }
        }
    }

    /// Where its files are; more may be put there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file with everything to reach it as an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// What `kubectl` says, given this on its standard input.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        self.run("kubectl", arguments, input)
    }

    /// What `kubectl` prints; it has to succeed.
    pub fn must(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// What `helm` prints; it has to succeed.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let output = self.run("helm", arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// Starts one more program of the folder. It is killed before those that were there.
    pub fn spawn(&mut self, name: &'static str, flags: &[String]) {
        let log = File::create(self.log(name)).unwrap();
        let child = Command::new(self.programs.join(name))
            .args(flags)
            .current_dir(self.dir.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        self.children.insert(0, (name, child));
    }

    /// The ends of the logs, for whoever has to find out.
    pub fn last_words(&self) -> String {
        let of = |(name, _): &(&str, Child)| self.last_words_of(name);
        self.children.iter().rev().map(of).collect()
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(self.programs.join(program))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            // Nothing of whoever runs the tests is read or written.
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Both read all of it before they say anything worth a full pipe.
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output {
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// A certificate for the server, a key to sign tokens with, a token of an administrator.
    fn write_credentials(&self, port: u16) {
        let serving = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let signing = rcgen::KeyPair::generate().unwrap();
        // Random enough that nobody else on the machine guesses it while a test runs.
        let token = format!("{:016x}", RandomState::new().build_hasher().finish());
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.dir.path().join("serving.crt"),
            }}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        for (file, text) in [
            ("serving.crt", serving.cert.pem()),
            ("serving.key", serving.signing_key.serialize_pem()),
            ("signing.key", signing.serialize_pem()),
            ("signing.pub", signing.public_key_pem()),
            (
                "tokens.csv",
                format!("{token},admin,admin,system:masters\n"),
            ),
            ("kubeconfig", kubeconfig.to_string()),
        ] {
            std::fs::write(self.dir.path().join(file), text).unwrap();
        }
    }

    /// Which program has ended, and what it said last.
    fn ended(&mut self) -> Option<String> {
        let ended = |(name, child): &mut (&'static str, Child)| {
            let status = child.try_wait().unwrap()?;
            Some((*name, status))
        };
        let (name, status) = self.children.iter_mut().find_map(ended)?;
        let said = self.last_words_of(name);
        Some(format!("{name} has ended: {status}\n{said}"))
    }

    fn last_words_of(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(LAST_LINES).collect();
        lines.reverse();
        let named = |line: &&str| format!("{name}: {line}\n");
        lines.iter().map(named).collect()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn etcd_flags(dir: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{client_port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client_port}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"),
        // Nothing here has to outlive the test.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server_flags(dir: &Path, etcd_port: u16, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", file("certs")),
        format!("--tls-cert-file={}", file("serving.crt")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", file("signing.key")),
        format!("--service-account-key-file={}", file("signing.pub")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        // As strict as clusters come: an owner reference that blocks deletion takes a permission.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        // There is no controller here that would make the accounts that Pods need.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}
