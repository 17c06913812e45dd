//! Test certificates, generated for each test.

use std::path::PathBuf;

/// PEM files of a CA, a server on the loopback address and a client.
pub struct CertificateFiles {
    pub ca: PathBuf,
    pub other_ca: PathBuf,
    pub server_cert: PathBuf,
    pub server_key: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
}

impl CertificateFiles {
    pub fn generate() -> (tempfile::TempDir, Self) {
        Self::generate_with(|_| {})
    }

    /// Generates certificates that have expired.
    pub fn generate_expired() -> (tempfile::TempDir, Self) {
        Self::generate_with(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1))
    }

    fn generate_with(change: impl Fn(&mut rcgen::CertificateParams)) -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let new_ca = || {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap())
                .unwrap()
        };
        let ca = new_ca();
        let signed = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            change(&mut params);
            (
                params.signed_by(&key, &ca).unwrap().pem(),
                key.serialize_pem(),
            )
        };
        let (server, client) = (signed(&["127.0.0.1", "localhost"]), signed(&["client"]));
        let files = Self {
            ca: write("ca.pem", ca.pem()),
            other_ca: write("other.pem", new_ca().pem()),
            server_cert: write("server.pem", server.0),
            server_key: write("server.key", server.1),
            client_cert: write("client.pem", client.0),
            client_key: write("client.key", client.1),
        };
        (dir, files)
    }
}
