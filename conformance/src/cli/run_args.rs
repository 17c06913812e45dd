//! The flags that runs of either side share, and how a run is made of them.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{TROUBLE, USAGE, complain, complain_of, say};
use crate::check::executor::Observer;
use crate::check::pattern::{Pattern, suggestion};
use crate::check::run_options::RunOptions;
use crate::check::side::Side;
use crate::report::format::{Amount, Style};
use crate::report::progress::Progress;
use crate::report::run::RunnableSuite;
use crate::report::{self, Form, Report, json, text};
use crate::spec::requirements::Profile;

/// Which checks, how, and what to hand out.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Judge by this profile; repeatable [default: those that the target claims, else all]
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,

    /// Run only the checks that match, by id or requirement: `start/*`, `HOST-SVC-*`; repeatable
    #[arg(long, value_name = "GLOB")]
    run: Vec<String>,

    /// Leave out the checks that match; repeatable
    #[arg(long, value_name = "GLOB")]
    skip: Vec<String>,

    /// Include checks that take longer than half a minute
    #[arg(long)]
    slow: bool,

    /// The order in which checks begin [default: random, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run each check N times: what differs is unstable
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,

    /// Checks at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Write a report; .json, .xml (JUnit) or .txt; repeatable
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,

    /// What to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Failures that are known; strict
    #[arg(long, value_name = "FILE")]
    known_failures: Option<PathBuf>,

    /// Say which checks would not run, and why, and judge nothing
    #[arg(long)]
    list_not_run: bool,

    /// A line for each check
    #[arg(short, long)]
    verbose: bool,

    /// Only what keeps the verdict from being good, and the verdict
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// No colours
    #[arg(long)]
    no_color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// The JSON report.
    Json,
}

/// Runs a suite with these settings: the exit code.
pub async fn run(arguments: &RunArgs, mut suite: impl RunnableSuite) -> u8 {
    for path in &arguments.report {
        if let Err(error) = Form::of(path) {
            return complain(&error, USAGE);
        }
    }
    if let Err(code) = arguments.set(suite.options_mut()) {
        return code;
    }
    if let Err(usage) = suite.validate() {
        return complain(&usage, USAGE);
    }
    if arguments.list_not_run {
        let lines = suite
            .not_selected()
            .into_iter()
            .map(|(id, reason)| format!("{id:<34} {reason}\n"));
        say(&lines.collect::<String>());
        return 0;
    }
    let interrupt = AbortOnDropHandle::new(tokio::spawn(stop_on_signal(
        suite.options_mut().stop.clone(),
    )));
    let on_terminal =
        std::io::stderr().is_terminal() && arguments.output == Output::Text && !arguments.quiet;
    if on_terminal {
        let total = suite.selected() * usize::from(arguments.repeat);
        let progress: Arc<dyn Observer> = Arc::new(Progress::new(total));
        suite.options_mut().observer = progress;
    }
    let report = report::run::run(&suite).await;
    // The suite holds the progress line, which is wiped before the report is printed.
    drop(suite);
    drop(interrupt);
    arguments.hand_out(&report)
}

impl RunArgs {
    fn set(&self, options: &mut RunOptions) -> Result<(), u8> {
        options.slow = self.slow;
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
        options.known = self.known_failures.clone();
        Ok(())
    }

    fn hand_out(&self, report: &Report) -> u8 {
        let style = Style {
            colour: colour(self.no_color),
            amount: match (self.quiet, self.verbose) {
                (true, _) => Amount::Quiet,
                (_, true) => Amount::Verbose,
                _ => Amount::Usual,
            },
        };
        match self.output {
            Output::Text => say(&text::render(report, &style)),
            Output::Json => say(&json::render(report)),
        }
        let mut code = report.exit_code;
        for path in &self.report {
            match report.write(path) {
                Ok(()) if self.output == Output::Text && !self.quiet => {
                    say(&format!("report {}\n", path.display()));
                }
                Ok(()) => {}
                Err(error) => code = complain(&error, TROUBLE),
            }
        }
        code
    }
}

/// The profile of that name, or the exit code after a complaint.
pub fn profile(side: Side, name: &str) -> Result<Profile, u8> {
    let profiles = side.profiles();
    let found = profiles.iter().find(|profile| profile.name() == name);
    found.copied().ok_or_else(|| {
        let near = suggestion(name, profiles.iter().map(|profile| profile.name()));
        let side = side.name();
        complain_of(
            &format!("there is no profile `{name}` of a {side}{near}"),
            USAGE,
        )
    })
}

/// A word in braces that looks like a placeholder and is none of the known ones.
pub fn unknown_placeholder<'w>(word: &'w str, known: &[(&str, &str)]) -> Option<&'w str> {
    let mut rest = word;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        let like = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if like && !known.iter().any(|(known, _)| *known == name) {
            return Some(name);
        }
        rest = behind;
    }
    None
}

/// Whether the placeholders of a command are those that there are, and the broker is among them.
///
/// # Errors
/// The exit code, after a complaint.
pub fn check_placeholders(command: &[String], known: &[(&str, &str)], who: &str) -> Result<(), u8> {
    for word in command {
        if let Some(unknown) = unknown_placeholder(word, known) {
            let near = suggestion(unknown, known.iter().map(|(name, _)| *name));
            let text = format!("there is no placeholder `{{{unknown}}}`{near}");
            return Err(complain_of(&text, USAGE));
        }
    }
    if !command.iter().any(|word| word.contains("{nats_url}")) {
        let text =
            format!("the command does not say {{nats_url}}: the {who} would not find the broker");
        return Err(complain_of(&text, USAGE));
    }
    Ok(())
}

/// Colours are for terminals whose owner did not forbid them.
pub fn colour(forbidden: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !forbidden && !no_color && std::io::stdout().is_terminal()
}

/// Cancels when a signal asks the program to end.
pub async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut term), Ok(mut hangup)) = signals else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
        _ = hangup.recv() => {}
    }
    stop.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::PLACEHOLDERS;

    #[test]
    fn only_words_in_braces_are_placeholders() {
        let unknown = |word| unknown_placeholder(word, PLACEHOLDERS);
        assert_eq!(unknown("--nats={nats_url}"), None);
        assert_eq!(unknown("{nats}"), Some("nats"));
        assert_eq!(unknown("{\"json\": 1}"), None);
        assert_eq!(unknown("{"), None);
    }
}
