//! `model-host` and `model-guest`: what the self test judges, as processes of their own.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{TROUBLE, USAGE, complain, complain_of};
use crate::model::{self, Mutant, Variant};

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
}

/// Runs a model host until a signal ends it.
pub async fn host(arguments: ModelHostArgs) -> u8 {
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
    let options = model::Options {
        nats_url: arguments.nats_url,
        host_id: arguments.host_id,
        mutant: mutant.and_then(|(_, mutant)| mutant),
        variant: variant.and_then(|(_, variant)| variant),
    };
    let shutdown = CancellationToken::new();
    if let Err(error) = model::heed_signals(options.mutant, shutdown.clone()) {
        return complain(&error, TROUBLE);
    }
    match model::run(options, shutdown).await {
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
    model::guest(&arguments.beacon).await;
    0
}
