//! Reasons of failed attempts to connect, with the files and credentials they concern.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Server, ServerAddr};
use tokio::time::Instant;

use crate::connect::{Auth, ConnectOptions};

/// Maximum number of servers in one log line. A cluster has few; any server can advertise many.
const MAX_SERVERS: usize = 5;

/// Time after which the same failure is logged again.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Explains and logs failed attempts.
#[derive(Debug)]
pub(super) struct Attempts {
    options: ConnectOptions,
    /// Credentials for messages, without secrets.
    credentials: String,
    servers: Vec<ServerAddr>,
    /// The latest line in the log.
    logged: Mutex<Option<(String, Instant)>>,
}

impl Attempts {
    pub fn new(options: &ConnectOptions, auth: &Auth, servers: Vec<ServerAddr>) -> Self {
        Self {
            options: options.clone(),
            credentials: describe(auth, options),
            servers,
            logged: Mutex::default(),
        }
    }

    pub fn credentials(&self) -> &str {
        &self.credentials
    }

    /// Returns the reason in an error of the NATS client, with the file or the credentials that the
    /// client leaves out.
    pub fn explain(&self, error: &str) -> String {
        let error = error.strip_prefix("IO error: ").unwrap_or(error);
        if error.starts_with("authorization violation") {
            return format!("the server rejects {}", self.credentials);
        }
        if let Some(signing) = error.strip_prefix("failed signing nonce: AuthError(") {
            return signing.strip_suffix(')').unwrap_or(signing).to_owned();
        }
        if error == "timed out" {
            return format!("no connection within {:?}", self.options.connect_timeout);
        }
        if error.contains("invalid peer certificate") {
            return match &self.options.tls_ca_file {
                Some(path) => format!("{error} (CA certificates from {})", path.display()),
                None => format!("{error} (CA certificates of the system)"),
            };
        }
        if error.contains("corrupt message") || error.contains("handshake eof") {
            return format!("{error} (does the server support TLS?)");
        }
        if error.starts_with("TLS error: ")
            && let Err(invalid) = self.options.check_tls_files()
        {
            return with_source(&invalid);
        }
        error.to_owned()
    }

    /// Logs the failures of the previous round of attempts.
    pub fn log_failures(&self, pool: &[Server]) {
        let failed = pool.iter().filter_map(|server| {
            let error = server.last_error.as_deref()?;
            Some(format!("{server}: {}", self.explain(error)))
        });
        let failed: Vec<_> = failed.take(MAX_SERVERS).collect();
        if !failed.is_empty() {
            self.log(failed.join("; "));
        }
    }

    /// Logs the names that cannot be resolved, which the NATS client does not tell.
    pub async fn log_unresolved(&self) {
        for server in self.servers.iter().take(MAX_SERVERS) {
            if let Err(error) = tokio::net::lookup_host((server.host(), server.port())).await {
                self.log(format!("{}: {error}", server.as_url_str()));
            }
        }
    }

    /// Logs a line, unless it repeats the latest one.
    fn log(&self, failure: String) {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_repeated = logged.as_ref().is_some_and(|(latest, at)| {
            *latest == failure && now.duration_since(*at) < REPEAT_INTERVAL
        });
        if !is_repeated {
            tracing::warn!("cannot connect to the broker at {failure}");
            *logged = Some((failure, now));
        }
    }
}

/// Returns the message of an error and its cause.
pub(super) fn with_source(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn describe(auth: &Auth, options: &ConnectOptions) -> String {
    match (auth, &options.tls_cert_file) {
        (Auth::None, None) => "a client without credentials".to_owned(),
        (Auth::None, Some(path)) => format!("the client certificate in {}", path.display()),
        (Auth::Token(_), _) => "the token".to_owned(),
        (Auth::UserPassword { user, .. }, _) => format!("the password of user {user:?}"),
        (Auth::NkeySeed(_), _) => "the nkey".to_owned(),
        (Auth::NkeySeedFile(path), _) => format!("the nkey in {}", path.display()),
        (Auth::CredentialsFile(path), _) => format!("the credentials in {}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_name_the_cause_and_the_file() {
        let options = ConnectOptions {
            tls_ca_file: Some("/no/such/ca.pem".into()),
            ..ConnectOptions::to("nats://a")
        };
        let auth = Auth::UserPassword {
            user: "ann".into(),
            password: "hunter2".into(),
        };
        let attempts = Attempts::new(&options, &auth, Vec::new());
        for (error, explained) in [
            (
                "IO error: Connection refused (os error 111)",
                "Connection refused (os error 111)",
            ),
            (
                "authorization violation: nats: authorization violation",
                "the server rejects the password of user \"ann\"",
            ),
            (
                "IO error: invalid peer certificate: UnknownIssuer",
                "invalid peer certificate: UnknownIssuer (CA certificates from /no/such/ca.pem)",
            ),
            (
                "failed signing nonce: AuthError(cannot read /a: denied)",
                "cannot read /a: denied",
            ),
            ("timed out", "no connection within 5s"),
            (
                "TLS error: could not load certificates",
                "cannot read /no/such/ca.pem: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(attempts.explain(error), explained);
        }
        assert!(!format!("{attempts:?}").contains("hunter2"));
    }
}
