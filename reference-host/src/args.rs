//! The command line of `berth-host`: our own flags, and those of `wash host` for the same things.

mod data_connection;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use berth_sdk::cli::{ConnectArgs, GrpcServeArgs, LogArgs};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser};

use self::data_connection::DataConnectionArgs;
use crate::config::{self, CONCURRENT_PULLS_MAX, Config, HOST_GROUP_LABEL, Identity, Limits};
use crate::image::StoreOptions;

/// How `wash host` spells what all our programs spell otherwise.
const WASH_SPELLINGS: [(&str, &str); 5] = [
    ("nats_url", "scheduler-nats-url"),
    ("nats_tls_ca", "scheduler-nats-tls-ca"),
    ("nats_tls_cert", "scheduler-nats-tls-cert"),
    ("nats_tls_key", "scheduler-nats-tls-key"),
    ("nats_tls_first", "scheduler-nats-tls-first"),
];

/// Runs WebAssembly components for a scheduler that speaks the wasmCloud host protocol over NATS.
#[derive(Parser, Clone)]
#[command(name = "berth-host", version, max_term_width = 100)]
struct Args {
    /// The name of the command that `wash` has; it may be left out
    #[arg(value_parser = ["host"], hide = true)]
    command: Option<String>,

    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    data_connection: DataConnectionArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "gRPC")]
struct GrpcArgs {
    #[command(flatten)]
    serve: GrpcServeArgs,

    /// A scheduler to send heartbeats to, like http://scheduler:9091; may be repeated
    #[arg(long = "grpc-scheduler-url", value_name = "URL", value_parser = value::word)]
    schedulers: Vec<String>,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Host")]
struct HostArgs {
    /// This host's id, up to 256 of the characters A-Z a-z 0-9 _ - [default: a new one for each process]
    #[arg(long, value_name = "ID", env = "BERTH_HOST_ID", value_parser = value::host_id)]
    host_id: Option<String>,

    /// The name or address under which others reach --http-addr [default: the machine's name]
    #[arg(long, value_name = "NAME", value_parser = value::word)]
    host_name: Option<String>,

    /// The group of hosts that this one is in, announced as the label hostgroup
    #[arg(long, value_name = "NAME", default_value = config::HOST_GROUP, value_parser = value::label_value)]
    host_group: String,

    /// The environment, by which schedulers keep tenants apart
    #[arg(long, value_name = "NAME", env = "WASMCLOUD_HOST_ENVIRONMENT", value_parser = value::word)]
    environment: Option<String>,

    /// A label for schedulers to select by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::label)]
    labels: Vec<(String, String)>,

    /// Serve HTTP for workloads here, like 0.0.0.0:8000; port 0 takes any [default: no HTTP]
    #[arg(long, value_name = "IP:PORT")]
    http_addr: Option<SocketAddr>,

    /// Between two heartbeats, 1s to 30s
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = heartbeat_interval)]
    heartbeat_interval: Duration,

    /// How long the shutdown may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = shutdown_grace)]
    shutdown_grace: Duration,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Images")]
struct ImageArgs {
    /// Reach this registry over plain HTTP; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", value_parser = value::registry)]
    insecure_registries: Vec<String>,

    /// Reach EVERY registry over plain HTTP; prefer --insecure-registry
    #[arg(long)]
    allow_insecure_registries: bool,

    /// PEM file of CA certificates to trust for registries besides the system's; may be repeated
    #[arg(
        long = "oci-ca-path",
        value_name = "FILE",
        env = "WASH_OCI_CA_PATHS",
        value_delimiter = ','
    )]
    oci_ca_paths: Vec<PathBuf>,

    /// Keep images here over restarts [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    oci_cache_dir: Option<PathBuf>,

    /// How much of images is kept; those used longest ago go first
    #[arg(long, value_name = "MIB", default_value_t = config::IMAGE_CACHE_BYTES_MAX / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    oci_cache_size_mib: u64,

    /// The largest image that is accepted
    #[arg(long, value_name = "MIB", default_value_t = config::IMAGE_BYTES_MAX / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    image_size_limit_mib: u64,

    /// The deadline over everything that one pull does
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = pull_timeout)]
    registry_pull_timeout: Duration,

    /// How many pulls run at once
    #[arg(long, value_name = "N", default_value_t = CONCURRENT_PULLS_MAX as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_concurrent_pulls: u64,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// The memory of an instance whose workload sets no limit
    #[arg(long, value_name = "MIB", default_value_t = config::MEMORY_DEFAULT_BYTES / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=config::MEMORY_BYTES_MAX / MIB))]
    memory_limit_default_mib: u64,

    /// Workloads at once
    #[arg(long, value_name = "N", default_value_t = config::WORKLOADS_MAX as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=16_384))]
    max_workloads: u64,
}

const MIB: u64 = 1 << 20;
/// A pebibyte: more than any disk, and far from any overflow.
const MIB_MAX: u64 = 1 << 30;

/// Reads a command line, the program's name first, and the variables that the flags name, and those that say where
/// the Docker config is. Touches nothing else.
///
/// # Errors
///
/// What clap says: the mistake, the near spelling, the usage. `--help` and `--version` are such "errors" too;
/// [`clap::Error::exit`] does the right thing for all.
pub fn parse<I, T>(command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let mut config = read(command(), command_line)?;
    config.images.docker_config = StoreOptions::docker_config_of_environment();
    Ok(config)
}

fn read<I, T>(mut command: Command, command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = command.try_get_matches_from_mut(command_line)?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    args.into_config()
        .map_err(|message| command.error(ErrorKind::ValueValidation, message))
}

/// The flags as `wash host` spells them too. Variables may hold secrets, so `--help` does not show their values.
fn command() -> Command {
    let spelled = WASH_SPELLINGS
        .iter()
        .fold(Args::command(), |command, (arg, spelling)| {
            command.mut_arg(arg, |arg| arg.visible_alias(spelling))
        });
    spelled
        .mut_arg("log_level", |arg| arg.short('l'))
        .mut_args(|arg| arg.hide_env_values(true))
}

impl Args {
    fn into_config(self) -> Result<Config, String> {
        let mut notices: Vec<String> = self.data_connection.notice().into_iter().collect();
        notices.extend(self.images.notices());
        let HostArgs {
            host_id,
            host_name,
            host_group,
            environment,
            labels,
            ..
        } = self.host;
        let labels = all_labels(labels, host_group)?;
        Ok(Config {
            connect: self.connect.into_options(None)?,
            grpc: self.grpc.serve.into_settings()?,
            grpc_schedulers: self.grpc.schedulers,
            identity: Identity {
                host_id,
                host_name,
                environment,
                labels,
            },
            http_addr: self.host.http_addr,
            heartbeat_interval: self.host.heartbeat_interval,
            shutdown_grace: self.host.shutdown_grace,
            images: self.images.into_options(),
            limits: Limits {
                memory_default_bytes: self.limits.memory_limit_default_mib * MIB,
                workloads_max: self.limits.max_workloads as usize,
            },
            log: self.log.into_log(),
            notices,
        })
    }
}

fn all_labels(
    labels: Vec<(String, String)>,
    host_group: String,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::from([(HOST_GROUP_LABEL.to_owned(), host_group)]);
    for (key, value) in labels {
        if let Some(first) = all.insert(key.clone(), value.clone()) {
            return Err(format!(
                "--label {key} is given twice, as {first:?} and {value:?}; leave one out"
            ));
        }
    }
    Ok(all)
}

impl ImageArgs {
    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.allow_insecure_registries {
            notices.push(
                "--allow-insecure-registries: every registry is reached over plain HTTP, images and \
                 credentials can be read and changed on the way; prefer --insecure-registry HOST[:PORT]"
                    .to_owned(),
            );
        }
        if self.registry_pull_timeout > config::PULL_TIMEOUT_CONFORMANT_MAX {
            notices.push(format!(
                "--registry-pull-timeout is over {:?}: a start from a registry that hangs is not known to have \
                 failed within the 60 s that schedulers wait",
                config::PULL_TIMEOUT_CONFORMANT_MAX
            ));
        }
        if self.image_size_limit_mib > self.oci_cache_size_mib {
            notices.push(
                "--image-size-limit-mib is over --oci-cache-size-mib: images that do not fit into the cache are \
                 pulled again at each start"
                    .to_owned(),
            );
        }
        notices
    }

    fn into_options(self) -> StoreOptions {
        StoreOptions {
            cache_dir: self.oci_cache_dir,
            cache_bytes_max: self.oci_cache_size_mib * MIB,
            pull_timeout: self.registry_pull_timeout,
            image_bytes_max: self.image_size_limit_mib * MIB,
            concurrent_pulls_max: self.max_concurrent_pulls as usize,
            insecure_registries: self.insecure_registries.into_iter().collect(),
            allow_all_insecure: self.allow_insecure_registries,
            registry_ca_paths: self.oci_ca_paths,
            docker_config: None,
        }
    }
}

fn heartbeat_interval(text: &str) -> Result<Duration, String> {
    value::duration_in(
        text,
        config::HEARTBEAT_INTERVAL_MIN..=config::HEARTBEAT_INTERVAL_MAX,
    )
}

fn shutdown_grace(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::ZERO..=config::SHUTDOWN_GRACE_MAX)
}

fn pull_timeout(text: &str) -> Result<Duration, String> {
    value::duration_in(text, Duration::from_millis(100)..=config::PULL_TIMEOUT_MAX)
}

#[cfg(test)]
mod tests;
