//! A real nats-server with the configuration and certificates of a rendering.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::nats_client::Client;
use super::{find, root};

/// Time limit of the start, far above the usual time.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Broker {
    port: u16,
    dir: tempfile::TempDir,
    child: Child,
}

impl Broker {
    pub fn start(objects: &[Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for secret in objects.iter().filter(|object| object["kind"] == "Secret") {
            let secret_dir = dir
                .path()
                .join(secret["metadata"]["name"].as_str().unwrap());
            std::fs::create_dir(&secret_dir).unwrap();
            for (file, text) in secret["data"].as_object().unwrap() {
                std::fs::write(
                    secret_dir.join(file),
                    STANDARD.decode(text.as_str().unwrap()).unwrap(),
                )
                .unwrap();
            }
        }
        let [port, monitor] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, monitor] = [port, monitor].map(|one| one.local_addr().unwrap().port());
        let config = find(objects, "ConfigMap", "berth-nats")["data"]["nats.conf"]
            .as_str()
            .unwrap();
        // Adapts paths and addresses of the container.
        let config = config
            .replace(
                "/etc/nats-tls",
                dir.path().join("berth-nats-tls").to_str().unwrap(),
            )
            .replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"))
            .replace("0.0.0.0:8222", &format!("127.0.0.1:{monitor}"));
        let file = dir.path().join("nats.conf");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(dir.path().join("nats.log")).unwrap();
        let child = Command::new(xtask::nats_server::obtain(root()).unwrap())
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut broker = Self { port, dir, child };
        broker.wait_until_listening();
        broker
    }

    fn wait_until_listening(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let exit = self.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap();
            assert!(exit.is_none() && Instant::now() < deadline, "{}", log());
            std::thread::yield_now();
        }
    }

    /// Returns the directory with the content of a Secret.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Connects with the certificate in a Secret.
    pub fn client(&self, secret: &str) -> Client {
        self.try_client(&self.secret(secret)).unwrap()
    }

    /// Connects with the certificate in a directory. Returns an error if the server rejects it.
    pub fn try_client(&self, credentials: &Path) -> Result<Client, String> {
        Client::connect(self.port, credentials)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
