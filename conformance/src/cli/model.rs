//! `model-host`, `model-scheduler` and `model-guest`: what the self test judges, as processes of their own.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{TROUBLE, USAGE, complain, complain_of};
use crate::models::host::{Mutant, Variant};
use crate::models::{host as model_host, scheduler as model_scheduler};

/// Flags of `model-host`.
#[derive(Debug, Args)]
pub struct ModelHostArgs {
    /// The broker
    #[arg(long, value_name = "URL")]
    nats_url: String,
    /// The host id; made up when absent
    #[arg(long, value_name = "ID")]
    host_id: Option<String>,
    /// Be wrong in this way
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Differ in this way
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The process that it is not to outlive
    #[arg(long, value_name = "PID", hide = true)]
    suite: Option<u32>,
}

/// How often a model looks whether its suite is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Ends the process when the one that launched it has ended: of a suite that was killed nothing is to be left. A suite
/// says who it is, as it may be gone before anybody here can look.
fn end_with_suite(suite: Option<u32>) {
    let suite = suite.unwrap_or_else(std::os::unix::process::parent_id);
    tokio::spawn(async move {
        while std::os::unix::process::parent_id() == suite {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        std::process::exit(i32::from(TROUBLE));
    });
}

/// Runs a model host until a signal ends it.
pub async fn host(arguments: ModelHostArgs) -> u8 {
    end_with_suite(arguments.suite);
    let mutant = arguments
        .mutant
        .as_deref()
        .map(|name| (name, Mutant::named(name)));
    let variant = arguments
        .variant
        .as_deref()
        .map(|name| (name, Variant::named(name)));
    if let Some((name, None)) = mutant {
        return complain_of(&format!("no mutant is called `{name}`"), USAGE);
    }
    if let Some((name, None)) = variant {
        return complain_of(&format!("no variant is called `{name}`"), USAGE);
    }
    // A log is what a host has: one of the faults shows in it and nowhere else.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let options = model_host::Options {
        nats_url: arguments.nats_url,
        host_id: arguments.host_id,
        mutant: mutant.and_then(|(_, mutant)| mutant),
        variant: variant.and_then(|(_, variant)| variant),
    };
    let shutdown = CancellationToken::new();
    if let Err(error) = model_host::heed_signals(options.mutant, shutdown.clone()) {
        return complain(&error, TROUBLE);
    }
    match model_host::run(options, shutdown).await {
        Ok(()) => 0,
        Err(error) => complain(&error, 1),
    }
}

/// Flags of `model-scheduler`.
#[derive(Debug, Args)]
pub struct ModelSchedulerArgs {
    /// The broker
    #[arg(long, value_name = "URL")]
    nats_url: String,
    /// The directory with the manifests
    #[arg(long, value_name = "DIR")]
    dir: std::path::PathBuf,
    /// Do not share hosts between environments
    #[arg(long)]
    isolated: bool,
    /// Be wrong in this way
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Differ in this way
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The process that it is not to outlive
    #[arg(long, value_name = "PID", hide = true)]
    suite: Option<u32>,
}

/// Runs a model scheduler until a signal ends it.
pub async fn scheduler(arguments: ModelSchedulerArgs) -> u8 {
    end_with_suite(arguments.suite);
    let mutant = arguments.mutant.as_deref();
    let variant = arguments.variant.as_deref();
    let (broken, other) = (
        mutant.map(model_scheduler::Mutant::named),
        variant.map(model_scheduler::Variant::named),
    );
    if let (Some(name), Some(None)) = (mutant, broken) {
        return complain_of(&format!("no mutant is called `{name}`"), USAGE);
    }
    if let (Some(name), Some(None)) = (variant, other) {
        return complain_of(&format!("no variant is called `{name}`"), USAGE);
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let options = model_scheduler::Options {
        nats_url: arguments.nats_url,
        dir: arguments.dir,
        isolated: arguments.isolated,
        mutant: broken.flatten(),
        variant: other.flatten(),
    };
    let stop = CancellationToken::new();
    let signals = tokio::spawn(crate::cli::run_args::stop_on_signal(stop.clone()));
    let ended = model_scheduler::run(options, stop).await;
    signals.abort();
    match ended {
        Ok(()) => 0,
        Err(error) => complain(&error, 1),
    }
}

/// Flags of `model-guest`.
#[derive(Debug, Args)]
pub struct ModelGuestArgs {
    /// Where its beacons go
    beacon: String,
}

/// Runs a guest that its host left behind; it ends by itself.
pub async fn guest(arguments: ModelGuestArgs) -> u8 {
    model_host::guest(&arguments.beacon).await;
    0
}
