//! etcd and kube-apiserver for tests: child processes on random loopback ports, in a temporary
//! directory. Also used by the tests of the chart.

use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Deadline for the processes to be ready. On an idle machine this takes 4 s.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// Maximum number of attempts to start: several, because another process may bind a port between
/// its choice and its use.
const START_ATTEMPTS: usize = 3;

/// Number of log lines to show for a program that failed.
const LOG_TAIL_LINES: usize = 8;

/// Returns the instance that tests share while they run at the same time, or starts an instance
/// with `start`. The instance is dropped after the last of these tests.
pub fn shared<T>(slot: &Mutex<Weak<T>>, mut start: impl FnMut() -> Result<T, String>) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = slot.upgrade() {
        return shared;
    }
    let mut reasons = String::new();
    for _ in 0..START_ATTEMPTS {
        match start() {
            Ok(started) => {
                let started = Arc::new(started);
                *slot = Arc::downgrade(&started);
                return started;
            }
            Err(reason) => writeln!(reasons, "{reason}").unwrap(),
        }
    }
    panic!("cannot start an API server:\n{reasons}");
}

/// A running API server with its etcd.
pub struct ControlPlane {
    programs: PathBuf,
    dir: tempfile::TempDir,
    // In the order in which they are killed.
    children: Vec<(&'static str, Child)>,
}

/// Exit status and output of a program.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl ControlPlane {
    /// Starts the programs in a directory and waits until they are ready.
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
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            // kubectl takes a while to run, so this is not a busy loop.
            let output = plane.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"], "");
            if output.status.success() {
                return Ok(plane);
            }
            if let Some(failure) = plane.exited_program() {
                return Err(failure);
            }
            if Instant::now() > deadline {
                return Err(format!("{}\n{}", output.stderr, plane.log_tails()));
            }
        }
    }

    /// Returns the directory of its files, where tests can create more.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of a kubeconfig for an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Runs `kubectl` with `input` on its standard input.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        self.run("kubectl", arguments, input)
    }

    /// Runs `kubectl`, which must succeed, and returns its output.
    pub fn kubectl_ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// Runs `helm`, which must succeed, and returns its output.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let output = self.run("helm", arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// Starts another program of the directory. It is killed before the earlier ones.
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
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        self.children.insert(0, (name, child));
    }

    /// Returns the last log lines of all programs.
    pub fn log_tails(&self) -> String {
        let tail = |(name, _): &(&str, Child)| self.log_tail(name);
        self.children.iter().rev().map(tail).collect()
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(self.programs.join(program))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            // The home directory of the user is not read or written.
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Both read all input before their output could fill the pipe.
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

    /// Writes a certificate for the server, a key to sign tokens, and a token of an administrator.
    fn write_credentials(&self, port: u16) {
        let serving = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let signing = rcgen::KeyPair::generate().unwrap();
        // Random enough that no other user of the machine guesses it during a test.
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

    /// Returns the exit status and last log lines of a program that has exited, if any.
    fn exited_program(&mut self) -> Option<String> {
        let exited = |(name, child): &mut (&'static str, Child)| {
            let status = child.try_wait().unwrap()?;
            Some((*name, status))
        };
        let (name, status) = self.children.iter_mut().find_map(exited)?;
        let log = self.log_tail(name);
        Some(format!("{name} has exited: {status}\n{log}"))
    }

    fn log_tail(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(LOG_TAIL_LINES).collect();
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
        // No data has to survive the test.
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
        // Strict as some clusters: an owner reference that blocks deletion requires a permission.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        // No controller runs here that creates the service accounts of Pods.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}
