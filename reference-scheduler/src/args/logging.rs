//! The flags that say what is logged, those of upstream's operator among them.

use clap::ValueEnum;

use super::value;
use crate::config::Log;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// error, warn, info, debug, trace, or directives like info,berth_scheduler=debug
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

    /// The same as --log-format json, as upstream's operator spells it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    json_log: bool,

    /// A level as upstream's operator spells it: debug, info, error, panic or a number
    #[arg(long, value_name = "LEVEL", hide = true)]
    zap_log_level: Option<String>,

    /// console or json, as upstream's operator spells it
    #[arg(long, value_name = "FORMAT", hide = true)]
    zap_encoder: Option<String>,

    /// Accepted for upstream's operator, without effect
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    zap_devel: Option<String>,

    /// Accepted for upstream's operator, without effect
    #[arg(long, value_name = "LEVEL", hide = true)]
    zap_stacktrace_level: Option<String>,

    /// Accepted for upstream's operator, without effect
    #[arg(long, value_name = "FORMAT", hide = true)]
    zap_time_encoding: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    pub(super) fn into_log(self) -> Log {
        let filter = match self.zap_log_level.as_deref() {
            None => self.log_level,
            Some("panic") => "error".to_owned(),
            Some(level) if level.parse::<u32>().is_ok() => "debug".to_owned(),
            Some(level) => level.to_owned(),
        };
        let json = self.json_log
            || self.log_format == LogFormat::Json
            || self.zap_encoder.as_deref() == Some("json");
        Log { filter, json }
    }
}
