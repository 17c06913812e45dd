//! Flags for the log, including the log flags of wasmCloud's operator.

use berth_sdk::cli::{Log, LogArgs};

use super::value;

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Log")]
pub(super) struct LoggingArgs {
    #[command(flatten)]
    log: LogArgs,

    /// JSON log, the same as --log-format json (flag of wasmCloud's operator)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    json_log: bool,

    /// Log level of wasmCloud's operator: debug, info, error, panic or a number
    #[arg(long, value_name = "LEVEL", hide = true)]
    zap_log_level: Option<String>,

    /// Log format of wasmCloud's operator: console or json
    #[arg(long, value_name = "FORMAT", hide = true)]
    zap_encoder: Option<String>,

    /// Flag of wasmCloud's operator; has no effect
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    zap_devel: Option<String>,

    /// Flag of wasmCloud's operator; has no effect
    #[arg(long, value_name = "LEVEL", hide = true)]
    zap_stacktrace_level: Option<String>,

    /// Flag of wasmCloud's operator; has no effect
    #[arg(long, value_name = "FORMAT", hide = true)]
    zap_time_encoding: Option<String>,
}

impl LoggingArgs {
    pub(super) fn into_log(self) -> Log {
        let mut log = self.log.into_log();
        match self.zap_log_level.as_deref() {
            None => {}
            Some("panic") => log.filter = "error".to_owned(),
            Some(level) if level.parse::<u32>().is_ok() => log.filter = "debug".to_owned(),
            Some(level) => log.filter = level.to_owned(),
        }
        log.json |= self.json_log || self.zap_encoder.as_deref() == Some("json");
        log
    }
}
