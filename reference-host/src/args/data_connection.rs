//! The flags of `wash host` for a second connection, which this host does not have.

use std::path::PathBuf;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Bus")]
pub(super) struct DataConnectionArgs {
    /// Accepted for `wash host`: no interface of this host uses a data connection
    #[arg(long, value_name = "URL")]
    data_nats_url: Option<String>,

    /// Accepted for `wash host`, without effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_ca: Option<PathBuf>,

    /// Accepted for `wash host`, without effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_cert: Option<PathBuf>,

    /// Accepted for `wash host`, without effect
    #[arg(long, value_name = "FILE", hide = true)]
    data_nats_tls_key: Option<PathBuf>,

    /// Accepted for `wash host`, without effect
    #[arg(long, hide = true)]
    data_nats_tls_first: bool,
}

impl DataConnectionArgs {
    /// What should be said of the flags that have no effect here.
    pub(super) fn notice(&self) -> Option<String> {
        let files = [
            &self.data_nats_tls_ca,
            &self.data_nats_tls_cert,
            &self.data_nats_tls_key,
        ];
        let given = self.data_nats_url.is_some()
            || self.data_nats_tls_first
            || files.iter().any(|it| it.is_some());
        given.then(|| {
            "--data-nats-url and its TLS flags have no effect: no interface that this host offers \
             needs a data connection"
                .to_owned()
        })
    }
}
