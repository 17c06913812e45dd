//! The flags that say how to reach the bus.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::value;
use crate::connect::{Auth, ConnectOptions, DEFAULT_SERVER, Secret};

/// How to reach the bus.
#[derive(Args, Clone)]
#[command(next_help_heading = "Bus")]
pub struct ConnectArgs {
    /// NATS servers of one cluster, repeated or separated by commas
    #[arg(
        long,
        value_name = "URL",
        env = "BERTH_NATS_URL",
        value_delimiter = ','
    )]
    #[arg(default_value = DEFAULT_SERVER, value_parser = value::word)]
    #[arg(global = true, hide_env_values = true)]
    nats_url: Vec<String>,

    /// A file with a user JWT and its seed, as nsc writes it
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_CREDS", global = true)]
    nats_creds: Option<PathBuf>,

    /// A file with the seed of an nkey
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_NKEY", global = true)]
    nats_nkey: Option<PathBuf>,

    /// A token; better given as a variable, as others can read command lines
    #[arg(long, value_name = "TOKEN", env = "BERTH_NATS_TOKEN")]
    #[arg(global = true, hide_env_values = true)]
    nats_token: Option<Secret>,

    /// A user, with --nats-password
    #[arg(long, value_name = "USER", env = "BERTH_NATS_USER", global = true)]
    nats_user: Option<String>,

    /// The password of --nats-user; better given as a variable
    #[arg(long, value_name = "PASSWORD", env = "BERTH_NATS_PASSWORD")]
    #[arg(global = true, hide_env_values = true)]
    nats_password: Option<Secret>,

    /// Refuse brokers that do not offer TLS
    #[arg(long, global = true)]
    nats_tls: bool,

    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_CA", global = true)]
    nats_tls_ca: Option<PathBuf>,

    /// PEM file of our certificate, for mutual TLS
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_CERT", global = true)]
    nats_tls_cert: Option<PathBuf>,

    /// PEM file of the key to our certificate
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_KEY", global = true)]
    nats_tls_key: Option<PathBuf>,

    /// Begin with TLS before the broker's greeting (handshake_first)
    // Upstream's operator takes `-nats-tls-first=false`.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = ArgAction::Set, hide_possible_values = true, global = true)]
    nats_tls_first: bool,

    /// The subject prefix for replies, where permissions demand another than _INBOX
    #[arg(long, value_name = "PREFIX", env = "BERTH_NATS_INBOX_PREFIX")]
    #[arg(value_parser = value::word, global = true)]
    nats_inbox_prefix: Option<String>,

    /// How long one attempt to connect may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout, global = true)]
    nats_connect_timeout: Duration,
}

impl ConnectArgs {
    /// The options, under this name on the brokers.
    ///
    /// # Errors
    ///
    /// What contradicts what, for whoever wrote the flags or set their variables.
    pub fn into_options(self, name: Option<String>) -> Result<ConnectOptions, String> {
        if self.nats_tls_cert.is_some() != self.nats_tls_key.is_some() {
            return Err("--nats-tls-cert and --nats-tls-key go together".to_owned());
        }
        let mut ways = Vec::new();
        ways.extend(self.nats_creds.map(Auth::CredentialsFile));
        ways.extend(self.nats_nkey.map(Auth::NkeySeedFile));
        ways.extend(self.nats_token.map(Auth::Token));
        match (self.nats_user, self.nats_password) {
            (Some(user), Some(password)) => ways.push(Auth::UserPassword { user, password }),
            (None, None) => {}
            _ => return Err("--nats-user and --nats-password go together".to_owned()),
        }
        if ways.len() > 1 {
            return Err(
                "give one of --nats-creds, --nats-nkey, --nats-token and --nats-user, on the \
                 command line or as BERTH_NATS_ variables"
                    .to_owned(),
            );
        }
        Ok(ConnectOptions {
            servers: self.nats_url,
            name,
            auth: ways.pop().unwrap_or_default(),
            tls_ca_file: self.nats_tls_ca,
            tls_cert_file: self.nats_tls_cert,
            tls_key_file: self.nats_tls_key,
            tls_required: self.nats_tls,
            tls_first: self.nats_tls_first,
            inbox_prefix: self.nats_inbox_prefix,
            connect_timeout: self.nats_connect_timeout,
        })
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_millis(100)..=Duration::from_secs(60))
}
