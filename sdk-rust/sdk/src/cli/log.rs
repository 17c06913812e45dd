//! The log of the process, written to standard error.

mod line_limit;

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::line_limit::LineLimit;

/// Directives for the NATS client, which repeats the same error with each attempt to connect, and
/// logs an event for each message that it drops. The bus logs both itself, with the cause and
/// within the limit. Directives of the user for these targets override them.
const QUIET: &str = "async_nats=warn,async_nats::connector=off";

/// Flags for the log.
#[derive(Args, Clone)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Log level (error, warn, info, debug, trace) or directives such as info,berth_sdk=debug
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    log_level: String,

    /// Log format
    #[arg(
        long,
        value_name = "FORMAT",
        env = "BERTH_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Returns the log settings.
    pub fn into_log(self) -> Log {
        Log {
            filter: self.log_level,
            json: self.log_format == LogFormat::Json,
        }
    }
}

/// Level and format of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Level, or directives as parsed by `tracing-subscriber`.
    pub filter: String,
    /// Whether to write JSON, one object per line, instead of text.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            json: false,
        }
    }
}

/// Reason the log cannot be initialized.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error("invalid log filter {filter:?}")]
    InvalidFilter {
        /// The filter as given.
        filter: String,
        /// Reason it is invalid.
        #[source]
        source: ParseError,
    },
    /// The process has already initialized a log.
    #[error("cannot initialize the log")]
    Init(#[source] TryInitError),
}

impl Log {
    /// Initializes the log of the process, in color if standard error is a terminal. Warnings and
    /// errors of one place in the code are limited to 50 in 10 s; the number of omitted lines is
    /// logged.
    ///
    /// # Errors
    ///
    /// Fails if the filter is invalid or the process already has a log.
    pub fn init(&self) -> Result<(), LogError> {
        let directives = format!("{QUIET},{}", self.filter);
        let filter = EnvFilter::try_new(directives).map_err(|source| LogError::InvalidFilter {
            filter: self.filter.clone(),
            source,
        })?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = if self.json {
            lines.json().finish().with(LineLimit::default()).try_init()
        } else {
            lines.finish().with(LineLimit::default()).try_init()
        };
        started.map_err(LogError::Init)
    }
}
