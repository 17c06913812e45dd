//! A NATS client of a few lines, over TLS: what comes is text, and in order.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Much more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    subscriptions: usize,
}

impl Client {
    /// With `ca.crt`, `tls.crt` and `tls.key` of this folder. Says why not, when the server does not want it.
    pub fn connect(port: u16, credentials: &Path) -> Result<Self, String> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // The greeting comes before TLS.
        let mut byte = [0];
        while byte != *b"\n" {
            socket.read_exact(&mut byte).unwrap();
        }
        let file = |name: &str| credentials.join(name);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(file("ca.crt")).unwrap())
            .unwrap();
        let chain = vec![CertificateDer::from_pem_file(file("tls.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("tls.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let name = "berth-nats.berth.svc".try_into().unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut client = Self {
            stream: StreamOwned::new(session, socket),
            subscriptions: 0,
        };
        client.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}");
        client.try_flush().map(|_| client)
    }

    pub fn subscribe(&mut self, subject: &str) -> String {
        self.subscriptions += 1;
        self.send(&format!("SUB {subject} {}", self.subscriptions));
        self.flush()
    }

    pub fn publish(&mut self, subject: &str, reply: &str, payload: &str) -> String {
        self.send(&format!(
            "PUB {subject} {reply} {}\r\n{payload}",
            payload.len()
        ));
        self.flush()
    }

    /// Everything that has come. A server that has taken a message from one client has put it before those who get
    /// it by the time it answers that client's PING, so that nothing missing here is on its way.
    pub fn flush(&mut self) -> String {
        self.try_flush().unwrap()
    }

    fn try_flush(&mut self) -> Result<String, String> {
        self.send("PING");
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains("PONG\r\n") {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(text),
                Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) => return Err(format!("{text}{error}")),
            }
        }
        // The server asks, too.
        Ok(text.replace("PING\r\n", "").replace("PONG\r\n", ""))
    }

    fn send(&mut self, line: &str) {
        // When the server has hung up, the next reading says so.
        let _ = self.stream.write_all(format!("{line}\r\n").as_bytes());
        let _ = self.stream.flush();
    }
}

/// The subject for the answer to the request that is the only message in this text.
pub fn reply_subject(text: &str) -> &str {
    assert_eq!(text.matches("MSG ").count(), 1, "{text}");
    let line = text.lines().find(|line| line.contains("MSG ")).unwrap();
    line.split_whitespace().nth(3).unwrap()
}
