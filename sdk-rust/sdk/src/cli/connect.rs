//! Flags for the connection to the bus.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::value;
use crate::connect::{Auth, ConnectOptions, DEFAULT_SERVER, Secret};

/// Flags for the connection to the bus.
#[derive(Args, Clone)]
#[command(next_help_heading = "Bus")]
pub struct ConnectArgs {
    /// NATS server URLs of one cluster, repeated or comma-separated
    #[arg(
        long,
        value_name = "URL",
        env = "BERTH_NATS_URL",
        value_delimiter = ','
    )]
    #[arg(default_value = DEFAULT_SERVER, value_parser = value::no_whitespace)]
    #[arg(global = true, hide_env_values = true)]
    nats_url: Vec<String>,

    /// NATS credentials file (user JWT and seed, as written by nsc)
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_CREDS", global = true)]
    nats_creds: Option<PathBuf>,

    /// Nkey seed file
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_NKEY", global = true)]
    nats_nkey: Option<PathBuf>,

    /// NATS token; prefer the variable, because command lines are visible to other users
    #[arg(long, value_name = "TOKEN", env = "BERTH_NATS_TOKEN")]
    #[arg(global = true, hide_env_values = true)]
    nats_token: Option<Secret>,

    /// NATS user; requires --nats-password
    #[arg(long, value_name = "USER", env = "BERTH_NATS_USER", global = true)]
    nats_user: Option<String>,

    /// Password of --nats-user; prefer the variable
    #[arg(long, value_name = "PASSWORD", env = "BERTH_NATS_PASSWORD")]
    #[arg(global = true, hide_env_values = true)]
    nats_password: Option<Secret>,

    /// Reject brokers without TLS, as do tls:// and the TLS files
    #[arg(long, global = true)]
    nats_tls: bool,

    /// CA certificates (PEM) for TLS [default: system roots]
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_CA", global = true)]
    nats_tls_ca: Option<PathBuf>,

    /// Client certificate (PEM) for mutual TLS
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_CERT", global = true)]
    nats_tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the client certificate
    #[arg(long, value_name = "FILE", env = "BERTH_NATS_TLS_KEY", global = true)]
    nats_tls_key: Option<PathBuf>,

    /// Start with the TLS handshake, for brokers with handshake_first
    // Takes an optional value for compatibility with wasmCloud's operator, which accepts
    // `-nats-tls-first=false`.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = ArgAction::Set)]
    #[arg(hide_possible_values = true, global = true)]
    nats_tls_first: bool,

    /// Subject prefix of reply inboxes, if permissions require one other than _INBOX
    #[arg(long, value_name = "PREFIX", env = "BERTH_NATS_INBOX_PREFIX")]
    #[arg(value_parser = value::no_whitespace, global = true)]
    nats_inbox_prefix: Option<String>,

    /// Timeout of one attempt to connect
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout, global = true)]
    nats_connect_timeout: Duration,
}

impl ConnectArgs {
    /// Returns the connection options, with `name` as the client name on the brokers.
    ///
    /// # Errors
    ///
    /// Returns a message about the conflict if flags or variables contradict each other.
    pub fn into_options(self, name: Option<String>) -> Result<ConnectOptions, String> {
        if self.nats_tls_cert.is_some() != self.nats_tls_key.is_some() {
            return Err("--nats-tls-cert and --nats-tls-key require each other".to_owned());
        }
        let mut methods = Vec::new();
        methods.extend(self.nats_creds.map(Auth::CredentialsFile));
        methods.extend(self.nats_nkey.map(Auth::NkeySeedFile));
        methods.extend(self.nats_token.map(Auth::Token));
        match (self.nats_user, self.nats_password) {
            (Some(user), Some(password)) => methods.push(Auth::UserPassword { user, password }),
            (None, None) => {}
            _ => return Err("--nats-user and --nats-password require each other".to_owned()),
        }
        if methods.len() > 1 {
            return Err(
                "--nats-creds, --nats-nkey, --nats-token and --nats-user are mutually exclusive, \
                 also as BERTH_NATS_* variables"
                    .to_owned(),
            );
        }
        Ok(ConnectOptions {
            servers: self.nats_url,
            name,
            auth: methods.pop().unwrap_or_default(),
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
