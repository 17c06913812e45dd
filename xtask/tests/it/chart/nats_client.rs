//! A minimal NATS client over TLS that returns received messages as text.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Read timeout, far above the usual response time.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    subscriptions: usize,
}

impl Client {
    /// Connects with `ca.crt`, `tls.crt` and `tls.key` of a directory. Returns the server's error
    /// if it rejects them.
    pub fn connect(port: u16, credentials: &Path) -> Result<Self, String> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        // The server sends its INFO line before TLS.
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

    /// Returns all received text. When the server responds to a client's PING, it has already
    /// queued that client's messages for their receivers, so a message that is missing here will
    /// not arrive later.
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
        // The server sends PINGs, too.
        Ok(text.replace("PING\r\n", "").replace("PONG\r\n", ""))
    }

    fn send(&mut self, line: &str) {
        // If the server has closed the connection, the next read fails.
        let _ = self.stream.write_all(format!("{line}\r\n").as_bytes());
        let _ = self.stream.flush();
    }
}

/// Returns the reply subject of the only message in `text`.
pub fn reply_subject(text: &str) -> &str {
    assert_eq!(text.matches("MSG ").count(), 1, "{text}");
    let line = text.lines().find(|line| line.contains("MSG ")).unwrap();
    line.split_whitespace().nth(3).unwrap()
}
