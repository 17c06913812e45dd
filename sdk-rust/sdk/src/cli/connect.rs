//! The flags that say how to reach the bus; the same as those of `berth-host`.

use std::path::PathBuf;

use berth_sdk::ConnectOptions;
use berth_sdk::connect::{Auth, DEFAULT_SERVER, Secret};
use clap::Args;

/// How to reach the bus.
#[derive(Args)]
#[command(next_help_heading = "Bus")]
pub struct ConnectArgs {
    /// NATS servers of one cluster, repeated or separated by commas
    #[arg(
        long,
        value_name = "URL",
        env = "BERTH_NATS_URL",
        value_delimiter = ',',
        global = true
    )]
    #[arg(default_value = DEFAULT_SERVER, hide_env_values = true)]
    nats_url: Vec<String>,

    /// A file with a user JWT and its seed, as nsc writes it
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_CREDS", global = true)]
    nats_creds: Option<PathBuf>,

    /// A file with the seed of an nkey
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_NKEY", global = true)]
    nats_nkey: Option<PathBuf>,

    /// A token; better given as a variable, as others can read command lines
    #[arg(long, value_name = "TOKEN", env = "BERTH_NATS_TOKEN", global = true)]
    #[arg(hide_env_values = true)]
    nats_token: Option<Secret>,

    /// A user, with --nats-password
    #[arg(long, value_name = "USER", env = "BERTH_NATS_USER", global = true)]
    nats_user: Option<String>,

    /// The password of --nats-user; better given as a variable
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "BERTH_NATS_PASSWORD",
        global = true
    )]
    #[arg(hide_env_values = true)]
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
    #[arg(long, global = true)]
    nats_tls_first: bool,

    /// The subject prefix for replies, where permissions demand another than _INBOX
    #[arg(
        long,
        value_name = "PREFIX",
        env = "BERTH_NATS_INBOX_PREFIX",
        global = true
    )]
    nats_inbox_prefix: Option<String>,
}

impl ConnectArgs {
    /// The options, or what contradicts what. One way to show who we are, not two.
    pub fn into_options(self) -> Result<ConnectOptions, String> {
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
                "give one of --nats-creds, --nats-nkey, --nats-token and --nats-user, \
                        on the command line or as BERTH_NATS_ variables"
                    .to_owned(),
            );
        }
        Ok(ConnectOptions {
            servers: self.nats_url,
            name: Some("berthctl".to_owned()),
            auth: ways.pop().unwrap_or_default(),
            tls_ca_file: self.nats_tls_ca,
            tls_cert_file: self.nats_tls_cert,
            tls_key_file: self.nats_tls_key,
            tls_required: self.nats_tls,
            tls_first: self.nats_tls_first,
            inbox_prefix: self.nats_inbox_prefix,
            ..ConnectOptions::default()
        })
    }
}
