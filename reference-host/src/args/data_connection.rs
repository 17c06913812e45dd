//! The flags that say how to reach the bus.

use std::path::PathBuf;
use std::time::Duration;

use berth_sdk::ConnectOptions;
use berth_sdk::connect::{Auth, DEFAULT_SERVER, Secret};
use clap::Args;

use super::value;

/// How to reach the bus. The `--scheduler-nats-…` spellings are those of `wash host`.
#[derive(Args, Clone)]
#[command(next_help_heading = "Bus")]
pub(super) struct ConnectArgs {
    /// NATS servers of one cluster, repeated or separated by commas [default: nats://127.0.0.1:4222]
    #[arg(
        long,
        value_name = "URL",
        env = "BERTH_NATS_URL",
        value_delimiter = ','
    )]
    #[arg(visible_alias = "scheduler-nats-url", value_parser = value::word)]
    nats_url: Vec<String>,

    /// A file with a user JWT and its seed, as nsc writes it
    #[arg(
        long,
        value_name = "FILE",
        env = "BERTH_NATS_CREDS",
        group = "nats_auth"
    )]
    nats_creds: Option<PathBuf>,

    /// A file with the seed of an nkey
    #[arg(
        long,
        value_name = "FILE",
        env = "BERTH_NATS_NKEY",
        group = "nats_auth"
    )]
    nats_nkey: Option<PathBuf>,

    /// A token; better given as a variable, as others can read command lines
    #[arg(
        long,
        value_name = "TOKEN",
        env = "BERTH_NATS_TOKEN",
        group = "nats_auth"
    )]
    nats_token: Option<Secret>,

    /// A user, with --nats-password
    #[arg(
        long,
        value_name = "USER",
        env = "BERTH_NATS_USER",
        group = "nats_auth"
    )]
    #[arg(requires = "nats_password")]
    nats_user: Option<String>,

    /// The password of --nats-user; better given as a variable
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "BERTH_NATS_PASSWORD",
        requires = "nats_user"
    )]
    nats_password: Option<Secret>,

    /// Refuse brokers that do not offer TLS
    #[arg(long)]
    nats_tls: bool,

    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE", visible_alias = "scheduler-nats-tls-ca")]
    nats_tls_ca: Option<PathBuf>,

    /// PEM file of our certificate, for mutual TLS
    #[arg(long, value_name = "FILE", visible_alias = "scheduler-nats-tls-cert")]
    #[arg(requires = "nats_tls_key")]
    nats_tls_cert: Option<PathBuf>,

    /// PEM file of the key to our certificate
    #[arg(long, value_name = "FILE", visible_alias = "scheduler-nats-tls-key")]
    #[arg(requires = "nats_tls_cert")]
    nats_tls_key: Option<PathBuf>,

    /// Begin with TLS before the broker's greeting (handshake_first)
    #[arg(long, visible_alias = "scheduler-nats-tls-first")]
    nats_tls_first: bool,

    /// The subject prefix for replies, where permissions demand another than _INBOX
    #[arg(long, value_name = "PREFIX", env = "BERTH_NATS_INBOX_PREFIX", value_parser = value::word)]
    nats_inbox_prefix: Option<String>,

    /// How long one attempt to connect may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    nats_connect_timeout: Duration,

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

impl ConnectArgs {
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

    pub(super) fn into_options(self) -> ConnectOptions {
        let auth = match (
            self.nats_creds,
            self.nats_nkey,
            self.nats_token,
            self.nats_user,
        ) {
            (Some(file), ..) => Auth::CredentialsFile(file),
            (_, Some(file), ..) => Auth::NkeySeedFile(file),
            (_, _, Some(token), _) => Auth::Token(token),
            (_, _, _, Some(user)) => Auth::UserPassword {
                user,
                password: self.nats_password.unwrap_or_else(|| Secret::from("")),
            },
            _ => Auth::None,
        };
        let servers = match self.nats_url.is_empty() {
            true => vec![DEFAULT_SERVER.to_owned()],
            false => self.nats_url,
        };
        ConnectOptions {
            servers,
            auth,
            tls_ca_file: self.nats_tls_ca,
            tls_cert_file: self.nats_tls_cert,
            tls_key_file: self.nats_tls_key,
            tls_required: self.nats_tls,
            tls_first: self.nats_tls_first,
            inbox_prefix: self.nats_inbox_prefix,
            connect_timeout: self.nats_connect_timeout,
            ..ConnectOptions::default()
        }
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_millis(100)..=Duration::from_secs(60))
}
