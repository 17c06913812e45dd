//! Flags that `host` and `scheduler` share: selection of the target, and settings of the run.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{EXIT_ERROR, EXIT_USAGE, fail, fail_with, print};
use crate::check::executor::Observer;
use crate::check::pattern::{Pattern, suggestion};
use crate::check::run_options::RunOptions;
use crate::check::side::Side;
use crate::check::target_file::TargetFileError;
use crate::report::format::{Style, Verbosity};
use crate::report::progress::Progress;
use crate::report::run::RunnableSuite;
use crate::report::{self, FileFormat, Report, json, text};
use crate::spec::requirements::Profile;
use crate::testbed::broker::BrokerChoice;

/// Settings of a run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Profile to judge by; repeatable [default: the profiles that the target claims, or else all]
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,

    /// Run only checks whose id or requirement matches, such as `start/*` or `HOST-SVC-*`;
    /// repeatable
    #[arg(long, value_name = "GLOB")]
    run: Vec<String>,

    /// Skip checks whose id or requirement matches; repeatable
    #[arg(long, value_name = "GLOB")]
    skip: Vec<String>,

    /// Include checks that take longer than 30 s
    #[arg(long)]
    slow: bool,

    /// Exclude checks that wait longer than 10 s by design; their requirements are not measured
    #[arg(long, conflicts_with = "slow")]
    quick: bool,

    /// Seed of the order of checks [default: random; the report shows it]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Number of runs of each check, 1–1000; checks with different results are unstable
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    repeat: u16,

    /// Maximum number of concurrent checks, 1–256 [default: 16 for hosts, 24 for schedulers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Report file: .json, .xml (JUnit) or .txt; repeatable
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Known-failures file (TOML)
    #[arg(long, value_name = "FILE")]
    known_failures: Option<PathBuf>,

    /// List the checks that would not run, with the reasons, and exit
    #[arg(long)]
    list_not_run: bool,

    /// Print a line for each check
    #[arg(short, long)]
    verbose: bool,

    /// Show the traffic of passing checks as well, at most 200 messages for each
    #[arg(long, conflicts_with = "quiet")]
    wire: bool,

    /// Print only failures and the verdict
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Disable colors
    #[arg(long)]
    no_color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text form of the report.
    Text,
    /// JSON report.
    Json,
}

/// Flags that select a target of one side.
pub trait TargetSelection {
    /// Target of the side.
    type Target;
    /// Suite of the side.
    type Suite: RunnableSuite;

    /// Side of the target.
    const SIDE: Side;
    /// Placeholders of the launch command, each with its description.
    const PLACEHOLDERS: &'static [(&'static str, &'static str)];
    /// Flags that select a target that is already running, for an error message.
    const RUNNING_FLAGS: &'static str;
    /// Environment variable that names the default program.
    const PROGRAM_VARIABLE: &'static str;
    /// Name of the default program.
    const PROGRAM: &'static str;

    /// Returns the target file.
    fn file(&self) -> Option<&Path>;
    /// Loads a target file.
    ///
    /// # Errors
    /// Fails if the file is invalid.
    fn load(path: &Path) -> Result<Self::Target, TargetFileError>;
    /// Returns the target that is already running.
    fn running(&self) -> Option<Self::Target>;
    /// Returns the launch command; empty if there is none.
    fn command(&self) -> &[String];
    /// Returns the target that the launch command starts.
    fn launched(&self) -> Self::Target;
    /// Returns the target that the default program provides, if the program is found.
    fn default_target(&self) -> Option<Self::Target>;
    /// Returns the broker.
    fn broker(&self) -> &BrokerChoice;
    /// Creates a suite for a target.
    fn suite(target: Self::Target) -> Self::Suite;
}

/// Returns the selected target: from a file, already running, launched, or the default.
///
/// # Errors
/// Fails with the exit code after it has printed an error.
pub fn select_target<S: TargetSelection>(selection: &S) -> Result<S::Target, u8> {
    if let Some(path) = selection.file() {
        return S::load(path).map_err(|error| fail(&error, EXIT_USAGE));
    }
    if let Some(target) = selection.running() {
        return Ok(target);
    }
    if !selection.command().is_empty() {
        check_placeholders(selection.command(), S::PLACEHOLDERS, S::SIDE)?;
        return Ok(selection.launched());
    }
    selection.default_target().ok_or_else(|| {
        let message = format!(
            "no target: pass a command after `--`, or --target, or {}; `{}` is neither in {} nor in \
             the directory of this program nor on the PATH",
            S::RUNNING_FLAGS,
            S::PROGRAM,
            S::PROGRAM_VARIABLE
        );
        fail_with(&message, EXIT_ERROR)
    })
}

/// Judges the selected target and returns the exit code.
pub async fn run<S: TargetSelection>(arguments: &RunArgs, selection: &S) -> u8 {
    let target = match select_target(selection) {
        Ok(target) => target,
        Err(code) => return code,
    };
    let mut suite = S::suite(target);
    suite.options_mut().broker = selection.broker().clone();
    run_suite(arguments, suite).await
}

async fn run_suite(arguments: &RunArgs, mut suite: impl RunnableSuite) -> u8 {
    for path in &arguments.report {
        if let Err(error) = FileFormat::of(path) {
            return fail(&error, EXIT_USAGE);
        }
    }
    if let Err(code) = arguments.apply(suite.options_mut()) {
        return code;
    }
    if let Err(error) = suite.validate() {
        return fail(&error, EXIT_USAGE);
    }
    if arguments.list_not_run {
        let lines = suite
            .not_selected()
            .into_iter()
            .map(|(id, reason)| format!("{id:<34} {reason}\n"));
        print(&lines.collect::<String>());
        return 0;
    }
    let signals = AbortOnDropHandle::new(tokio::spawn(stop_on_signal(
        suite.options_mut().stop.clone(),
    )));
    let shows_progress =
        std::io::stderr().is_terminal() && arguments.output == Output::Text && !arguments.quiet;
    if shows_progress {
        let total = suite.selected_count() * usize::from(arguments.repeat);
        let progress: Arc<dyn Observer> = Arc::new(Progress::new(total));
        suite.options_mut().observer = progress;
    }
    let report = report::run::run(&suite).await;
    // The suite owns the progress line, which must be erased before the report is printed.
    drop(suite);
    drop(signals);
    arguments.print_report(&report)
}

impl RunArgs {
    fn apply(&self, options: &mut RunOptions) -> Result<(), u8> {
        options.slow = self.slow;
        options.quick = self.quick;
        options.wire = self.wire;
        options.repeat = self.repeat.into();
        options.stop = CancellationToken::new();
        if let Some(jobs) = self.jobs {
            options.jobs = jobs.into();
        }
        for name in &self.profile {
            let profile = profile(options.catalog.side, name)?;
            let profiles = options.profiles.get_or_insert_default();
            if !profiles.contains(&profile) {
                profiles.push(profile);
            }
        }
        options.run = self.run.iter().cloned().map(Pattern).collect();
        options.skip = self.skip.iter().cloned().map(Pattern).collect();
        if let Some(seed) = self.seed {
            options.seed = seed;
        }
        options.known_failures = self.known_failures.clone();
        Ok(())
    }

    /// Prints the report, writes the report files, and returns the exit code.
    fn print_report(&self, report: &Report) -> u8 {
        let style = Style {
            color: use_color(self.no_color),
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (_, true) => Verbosity::Verbose,
                _ => Verbosity::Normal,
            },
        };
        match self.output {
            Output::Text => print(&text::render(report, &style)),
            Output::Json => print(&json::render(report)),
        }
        let mut code = report.exit_code;
        for path in &self.report {
            match report.write(path) {
                Ok(()) if self.output == Output::Text && !self.quiet => {
                    print(&format!("report {}\n", path.display()));
                }
                Ok(()) => {}
                Err(error) => code = fail(&error, EXIT_ERROR),
            }
        }
        code
    }
}

/// Returns the profile with this name, or the exit code after it has printed an error.
fn profile(side: Side, name: &str) -> Result<Profile, u8> {
    let profiles = side.profiles();
    let found = profiles.iter().find(|profile| profile.name() == name);
    found.copied().ok_or_else(|| {
        let suggestion = suggestion(name, profiles.iter().map(|profile| profile.name()));
        let side = side.name();
        fail_with(
            &format!("unknown {side} profile `{name}`{suggestion}"),
            EXIT_USAGE,
        )
    })
}

/// Returns the first `{name}` in a word that has the form of a placeholder but is unknown.
fn unknown_placeholder<'w>(word: &'w str, known: &[(&str, &str)]) -> Option<&'w str> {
    let mut rest = word;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}')?;
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_name && !known.iter().any(|(known, _)| *known == name) {
            return Some(name);
        }
        rest = tail;
    }
    None
}

/// Checks that a command contains `{nats_url}` and no unknown placeholders.
///
/// # Errors
/// Fails with the exit code after it has printed an error.
fn check_placeholders(command: &[String], known: &[(&str, &str)], side: Side) -> Result<(), u8> {
    for word in command {
        if let Some(unknown) = unknown_placeholder(word, known) {
            let suggestion = suggestion(unknown, known.iter().map(|(name, _)| *name));
            let message = format!("unknown placeholder `{{{unknown}}}`{suggestion}");
            return Err(fail_with(&message, EXIT_USAGE));
        }
    }
    if !command.iter().any(|word| word.contains("{nats_url}")) {
        let message = format!(
            "the command does not contain {{nats_url}}: the {} cannot find the broker",
            side.name()
        );
        return Err(fail_with(&message, EXIT_USAGE));
    }
    Ok(())
}

/// Returns whether to use colors: on a terminal, without `NO_COLOR` and unless disabled.
fn use_color(disabled: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !disabled && !no_color && std::io::stdout().is_terminal()
}

/// Cancels the token on SIGINT, SIGTERM or SIGHUP.
pub async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut hangup)) = signals else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stop.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::PLACEHOLDERS;

    #[test]
    fn finds_unknown_placeholders() {
        let unknown = |word| unknown_placeholder(word, PLACEHOLDERS);
        assert_eq!(unknown("--nats={nats_url}"), None);
        assert_eq!(unknown("{nats}"), Some("nats"));
        assert_eq!(unknown("{\"json\": 1}"), None);
        assert_eq!(unknown("{"), None);
    }
}
