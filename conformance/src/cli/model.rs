//! `model-host`, `model-scheduler` and `model-guest`: processes that the self-test judges.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::run_args::stop_on_signal;
use super::{EXIT_ERROR, EXIT_USAGE, fail, fail_with};
use crate::models::host::{Mutant, Variant};
use crate::models::{host as model_host, scheduler as model_scheduler};

/// Flags of `model-host`.
#[derive(Debug, Args)]
pub struct ModelHostArgs {
    /// URL of the broker
    #[arg(long, value_name = "URL")]
    nats_url: String,
    /// Host id [default: random]
    #[arg(long, value_name = "ID")]
    host_id: Option<String>,
    /// Mutant: a model host with this fault
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Variant: a model host with this deviation, which the specification permits
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// PID of the suite; the model exits when the suite has exited [default: PID of the parent]
    #[arg(long, value_name = "PID", hide = true)]
    suite_pid: Option<u32>,
}

/// Interval at which a model checks whether its suite has exited.
const SUITE_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Exits the process when the suite has exited, so that a killed suite leaves no processes.
///
/// The suite passes its PID, because it may exit before this function can determine it.
fn exit_with_suite(suite_pid: Option<u32>) {
    let suite_pid = suite_pid.unwrap_or_else(std::os::unix::process::parent_id);
    tokio::spawn(async move {
        while std::os::unix::process::parent_id() == suite_pid {
            tokio::time::sleep(SUITE_POLL_INTERVAL).await;
        }
        std::process::exit(i32::from(EXIT_ERROR));
    });
}

/// Runs a model host until a signal stops it.
pub async fn host(arguments: ModelHostArgs) -> u8 {
    exit_with_suite(arguments.suite_pid);
    let mutant = arguments
        .mutant
        .as_deref()
        .map(|name| (name, Mutant::named(name)));
    let variant = arguments
        .variant
        .as_deref()
        .map(|name| (name, Variant::named(name)));
    if let Some((name, None)) = mutant {
        return fail_with(&format!("unknown mutant `{name}`"), EXIT_USAGE);
    }
    if let Some((name, None)) = variant {
        return fail_with(&format!("unknown variant `{name}`"), EXIT_USAGE);
    }
    // Writes a log, because the fault of one mutant is visible only there.
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
    if let Err(error) = model_host::cancel_on_signal(options.mutant, shutdown.clone()) {
        return fail(&error, EXIT_ERROR);
    }
    match model_host::run(options, shutdown).await {
        Ok(()) => 0,
        Err(error) => fail(&error, 1),
    }
}

/// Flags of `model-scheduler`.
#[derive(Debug, Args)]
pub struct ModelSchedulerArgs {
    /// URL of the broker
    #[arg(long, value_name = "URL")]
    nats_url: String,
    /// Directory of the manifests
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Do not share hosts between environments
    #[arg(long)]
    isolated: bool,
    /// Mutant: a model scheduler with this fault
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Variant: a model scheduler with this deviation, which the specification permits
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// PID of the suite; the model exits when the suite has exited [default: PID of the parent]
    #[arg(long, value_name = "PID", hide = true)]
    suite_pid: Option<u32>,
}

/// Runs a model scheduler until a signal stops it.
pub async fn scheduler(arguments: ModelSchedulerArgs) -> u8 {
    exit_with_suite(arguments.suite_pid);
    let mutant_name = arguments.mutant.as_deref();
    let variant_name = arguments.variant.as_deref();
    let mutant = mutant_name.map(model_scheduler::Mutant::named);
    let variant = variant_name.map(model_scheduler::Variant::named);
    if let (Some(name), Some(None)) = (mutant_name, mutant) {
        return fail_with(&format!("unknown mutant `{name}`"), EXIT_USAGE);
    }
    if let (Some(name), Some(None)) = (variant_name, variant) {
        return fail_with(&format!("unknown variant `{name}`"), EXIT_USAGE);
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let options = model_scheduler::Options {
        nats_url: arguments.nats_url,
        dir: arguments.dir,
        isolated: arguments.isolated,
        mutant: mutant.flatten(),
        variant: variant.flatten(),
    };
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let result = model_scheduler::run(options, stop).await;
    signals.abort();
    match result {
        Ok(()) => 0,
        Err(error) => fail(&error, 1),
    }
}

/// Flags of `model-guest`.
#[derive(Debug, Args)]
pub struct ModelGuestArgs {
    /// URL of the beacon
    beacon: String,
}

/// Runs a guest that its host leaves running. It ends by itself.
pub async fn guest(arguments: ModelGuestArgs) -> u8 {
    model_host::run_leftover_guest(&arguments.beacon).await;
    0
}
