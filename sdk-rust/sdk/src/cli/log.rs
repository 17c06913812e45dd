//! The log of the process: lines on standard error.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// The flags that say what is logged.
#[derive(Args, Clone)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// error, warn, info, debug, trace, or directives like info,berth_sdk=debug
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    log_level: String,

    /// How log lines look
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
    /// What they say.
    pub fn into_log(self) -> Log {
        Log {
            filter: self.log_level,
            json: self.log_format == LogFormat::Json,
        }
    }
}

/// What is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives as `tracing-subscriber` reads them.
    pub filter: String,
    /// One JSON object a line instead of text.
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

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} is wrong")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The process has one already.
    #[error("the log does not start")]
    Start(#[source] TryInitError),
}

impl Log {
    /// Starts the log, once for the process; in colour when a person watches.
    ///
    /// # Errors
    ///
    /// The filter cannot be read, or the process has a log already.
    pub fn start(&self) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(&self.filter).map_err(|source| LogError::Filter {
            filter: self.filter.clone(),
            source,
        })?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = if self.json {
            lines.json().finish().try_init()
        } else {
            lines.finish().try_init()
        };
        started.map_err(LogError::Start)
    }
}
