//! A real nats-server with a test's configuration.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// A nats-server on a free port, stopped on drop.
pub struct NatsServer {
    port: u16,
    config_path: PathBuf,
    child: Option<Child>,
    dir: TempDir,
}

impl NatsServer {
    /// Starts a server whose configuration has these lines in addition to address and port.
    pub async fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    /// Starts a server in a directory that already contains the files of its configuration.
    pub async fn start_in(dir: TempDir, config: &str) -> Self {
        let path = dir.path().join("nats.conf");
        let port = free_port();
        let address = format!("host: 127.0.0.1\nport: {port}\n");
        std::fs::write(&path, format!("{address}{config}\n")).unwrap();
        let mut server = Self {
            port,
            config_path: path,
            child: None,
            dir,
        };
        server.restart().await;
        server
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.stop();
        let log = std::fs::File::create(self.dir.path().join("nats.log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(&self.config_path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", program().display()));
        self.child = Some(child);
        let port = self.port;
        eventually("nats-server listens", async || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap();
                panic!("nats-server ended with {status}:\n{log}");
            }
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        })
        .await;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_NATS_SERVER").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    on_path.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "nats-server not found: put it on the PATH, set BERTH_NATS_SERVER, or run the tests with \
             `cargo xtask test`, which builds it"
        )
    })
}

/// Returns a port that was just free.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
