//! The flags of `wash host` for a second NATS connection, which this host does not use.

use std::path::PathBuf;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Bus")]
pub(super) struct DataConnectionArgs {
    /// Accepted for compatibility with `wash host`; has no effect
    #[arg(long, value_name = "URL")]
    data_nats_url: Option<String>,

    /// Accepted for compatibility with `wash host`; has no effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_ca: Option<PathBuf>,

    /// Accepted for compatibility with `wash host`; has no effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_cert: Option<PathBuf>,

    /// Accepted for compatibility with `wash host`; has no effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_key: Option<PathBuf>,

    /// Accepted for compatibility with `wash host`; has no effect
    #[arg(long, hide = true)]
    data_nats_tls_first: bool,
}

impl DataConnectionArgs {
    /// Returns a warning if any of these flags is set.
    pub(super) fn notice(&self) -> Option<String> {
        let files = [
            &self.data_nats_tls_ca,
            &self.data_nats_tls_cert,
            &self.data_nats_tls_key,
        ];
        let is_set = self.data_nats_url.is_some()
            || self.data_nats_tls_first
            || files.iter().any(|file| file.is_some());
        is_set.then(|| {
            "--data-nats-url and its TLS flags have no effect: no interface of this host uses a \
             data connection"
                .to_owned()
        })
    }
}
