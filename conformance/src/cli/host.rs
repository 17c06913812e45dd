//! `host` and `doctor`: put a suite together from flags, run it, and hand out the report.

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::{TROUBLE, USAGE, complain, complain_of, say};
use crate::{
    broker::Choice,
    pattern::suggestion,
    progress::Progress,
    report::{Form, Report, json, text},
    requirements::Profile,
    suite::{Builder, JOBS, Suite},
    target::{self, Access, Running, Target},
};

/// Which host.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// A target file (see `init`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// The broker of a host that runs already
    #[arg(
        long,
        value_name = "URL",
        requires = "host_id",
        conflicts_with = "target"
    )]
    nats_url: Option<String>,

    /// The id of a host that runs already
    #[arg(
        long,
        value_name = "ID",
        requires = "nats_url",
        conflicts_with = "target"
    )]
    host_id: Option<String>,

    /// The ingress of a host that runs already
    #[arg(long, value_name = "ADDR:PORT", requires = "nats_url")]
    http_addr: Option<String>,

    /// The broker: embedded, nats-server (from BERTH_NATS_SERVER or the PATH), or nats://URL
    #[arg(long, value_name = "WHICH", default_value = "embedded")]
    broker: Choice,

    /// The command that launches the host, with {nats_url} {http_addr} {registry} {host_id} {dir}
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["target", "nats_url"])]
    command: Vec<String>,
}

/// Flags of `host`.
#[derive(Debug, Args)]
pub struct HostArgs {
    #[command(flatten)]
    target: TargetArgs,

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
    #[arg(long, value_name = "N", default_value_t = JOBS as u16, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

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

    /// No colours
    #[arg(long)]
    no_color: bool,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// The JSON report.
    Json,
}

/// Runs `host`.
pub async fn run(arguments: HostArgs) -> u8 {
    for path in &arguments.report {
        if let Err(error) = Form::of(path) {
            return complain(&error, USAGE);
        }
    }
    let builder = match builder(&arguments) {
        Ok(builder) => builder,
        Err(code) => return code,
    };
    let suite = builder.clone().build();
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
    let stop = CancellationToken::new();
    let interrupt =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())));
    let mut builder = builder.stop(stop);
    let on_terminal = std::io::stderr().is_terminal() && arguments.output == Output::Text;
    if on_terminal {
        let total = suite.selected() * usize::from(arguments.repeat);
        builder = builder.observer(Arc::new(Progress::new(total)));
    }
    // The suite holds the progress line, which is wiped before the report is printed.
    let report = { builder.run().await };
    drop(interrupt);
    hand_out(&arguments, &report)
}

fn hand_out(arguments: &HostArgs, report: &Report) -> u8 {
    let style = text::Style {
        colour: colour(arguments.no_color),
        verbose: arguments.verbose,
    };
    match arguments.output {
        Output::Text => say(&text::render(report, &style)),
        Output::Json => say(&json::render(report)),
    }
    let mut code = report.exit_code;
    for path in &arguments.report {
        match report.write(path) {
            Ok(()) if arguments.output == Output::Text => {
                say(&format!("report {}\n", path.display()))
            }
            Ok(()) => {}
            Err(error) => code = complain(&error, TROUBLE),
        }
    }
    code
}

/// Runs `doctor`.
pub async fn doctor(arguments: DoctorArgs) -> u8 {
    let target = match arguments.target.target() {
        Ok(target) => target,
        Err(code) => return code,
    };
    let suite = Suite::builder()
        .target(target.clone())
        .broker(arguments.target.broker)
        .build();
    if let Err(usage) = suite.validate() {
        return complain(&usage, USAGE);
    }
    match suite.set_up().await {
        Err(trouble) => complain(&trouble, TROUBLE),
        Ok(setup) => {
            let lines = setup
                .examination
                .lines(&target, &setup.host, &setup.broker.name);
            let well = lines.iter().all(|(well, _)| *well);
            for (well, line) in lines {
                let mark = if well { "✓" } else { "✗" };
                say(&format!("{mark} {}\n", text::clean(&line)));
            }
            setup.host.end(std::time::Duration::from_secs(5)).await;
            if well { 0 } else { TROUBLE }
        }
    }
}

fn builder(arguments: &HostArgs) -> Result<Builder, u8> {
    let target = arguments.target.target()?;
    let mut builder = Suite::builder()
        .target(target)
        .broker(arguments.target.broker.clone())
        .slow(arguments.slow)
        .repeat(arguments.repeat.into())
        .jobs(arguments.jobs.into());
    for name in &arguments.profile {
        builder = builder.profile(profile(name)?);
    }
    for pattern in &arguments.run {
        builder = builder.only(pattern);
    }
    for pattern in &arguments.skip {
        builder = builder.skip(pattern);
    }
    if let Some(seed) = arguments.seed {
        builder = builder.seed(seed);
    }
    if let Some(path) = &arguments.known_failures {
        builder = builder.known_failures(path);
    }
    Ok(builder)
}

/// The profile of that name, or the exit code after a complaint.
pub fn profile(name: &str) -> Result<Profile, u8> {
    let found = Profile::ALL
        .into_iter()
        .find(|profile| profile.name() == name);
    found.ok_or_else(|| {
        let near = suggestion(name, Profile::ALL.iter().map(|profile| profile.name()));
        complain_of(&format!("there is no profile `{name}`{near}"), USAGE)
    })
}

impl TargetArgs {
    fn target(&self) -> Result<Target, u8> {
        if let Some(path) = &self.target {
            return target::file::load(path).map_err(|bad| complain(&bad, USAGE));
        }
        if let (Some(nats_url), Some(host_id)) = (&self.nats_url, &self.host_id) {
            let running = Running {
                nats_url: nats_url.clone(),
                host_id: host_id.clone(),
                http_addr: self.http_addr.clone(),
            };
            return Ok(Target::new(host_id.clone(), Access::Running(running)));
        }
        if !self.command.is_empty() {
            return self.launched();
        }
        target::default::berth_host().ok_or_else(|| {
            let text = "there is no target: give a command behind `--`, or --target, or --nats-url with \
                        --host-id; `berth-host` is neither in BERTH_HOST nor beside this program nor on the PATH";
            complain_of(text, TROUBLE)
        })
    }

    /// A command, whose placeholders must be those that there are.
    fn launched(&self) -> Result<Target, u8> {
        let target = Target::command(self.command.clone());
        for word in &self.command {
            if let Some(unknown) = unknown_placeholder(word) {
                let known = target::PLACEHOLDERS.iter().map(|(name, _)| *name);
                let near = suggestion(unknown, known);
                return Err(complain_of(
                    &format!("there is no placeholder `{{{unknown}}}`{near}"),
                    USAGE,
                ));
            }
        }
        if !target
            .launch()
            .is_some_and(|launch| launch.uses("nats_url"))
        {
            let text = "the command does not say {nats_url}: the host would not find the broker";
            return Err(complain_of(text, USAGE));
        }
        Ok(target)
    }
}

/// A word in braces that looks like a placeholder and is none.
fn unknown_placeholder(word: &str) -> Option<&str> {
    let mut rest = word;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        let like = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if like && !target::PLACEHOLDERS.iter().any(|(known, _)| *known == name) {
            return Some(name);
        }
        rest = behind;
    }
    None
}

/// Colours are for terminals whose owner did not forbid them.
pub fn colour(forbidden: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !forbidden && !no_color && std::io::stdout().is_terminal()
}

async fn stop_on_signal(stop: CancellationToken) {
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
    use super::unknown_placeholder;

    #[test]
    fn only_words_in_braces_are_placeholders() {
        assert_eq!(unknown_placeholder("--nats={nats_url}"), None);
        assert_eq!(unknown_placeholder("{nats}"), Some("nats"));
        assert_eq!(unknown_placeholder("{\"json\": 1}"), None);
        assert_eq!(unknown_placeholder("{"), None);
    }
}
