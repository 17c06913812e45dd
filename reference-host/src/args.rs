//! The command line of `berth-host`: its own flags, and the flags of `wash host` with the same
//! meaning.

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
use crate::config::{self, Config, HOST_GROUP_LABEL, IdentityConfig, Limits};
use crate::image::{self, DEFAULT_CONCURRENT_PULLS_MAX, StoreOptions};

/// Aliases from `wash host` for flags that all Berth programs have.
const WASH_ALIASES: [(&str, &str); 5] = [
    ("nats_url", "scheduler-nats-url"),
    ("nats_tls_ca", "scheduler-nats-tls-ca"),
    ("nats_tls_cert", "scheduler-nats-tls-cert"),
    ("nats_tls_key", "scheduler-nats-tls-key"),
    ("nats_tls_first", "scheduler-nats-tls-first"),
];

/// Runs WebAssembly components for a scheduler that speaks the wasmCloud host control protocol.
#[derive(Parser, Clone)]
#[command(name = "berth-host", version, max_term_width = 100)]
struct Args {
    /// Name of the subcommand of `wash`; optional
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

    /// Scheduler URL for heartbeats, such as http://scheduler:9091; repeatable
    #[arg(long = "grpc-scheduler-url", value_name = "URL", value_parser = value::no_whitespace)]
    schedulers: Vec<String>,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Host")]
struct HostArgs {
    /// Host ID, up to 256 of the characters A-Z a-z 0-9 _ - [default: random, new for each process]
    #[arg(long, value_name = "ID", env = "BERTH_HOST_ID", value_parser = value::host_id)]
    host_id: Option<String>,

    /// Name or address under which clients reach --http-addr [default: the machine's host name]
    #[arg(long, value_name = "NAME", value_parser = value::host_name)]
    host_name: Option<String>,

    /// Host group, announced as the label hostgroup
    #[arg(long, value_name = "NAME", default_value = config::DEFAULT_HOST_GROUP)]
    #[arg(value_parser = value::label_value)]
    host_group: String,

    /// Environment, by which schedulers isolate tenants
    #[arg(long, value_name = "NAME", env = "WASMCLOUD_HOST_ENVIRONMENT")]
    #[arg(value_parser = value::no_whitespace)]
    environment: Option<String>,

    /// Label that workloads can select by; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::label)]
    labels: Vec<(String, String)>,

    /// Listen address of the HTTP ingress, such as [::]:8000; port 0 picks a free port
    /// [default: no ingress]
    #[arg(long, value_name = "IP:PORT")]
    http_addr: Option<SocketAddr>,

    /// Heartbeat interval, 1s–30s
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = heartbeat_interval)]
    heartbeat_interval: Duration,

    /// Time limit of the shutdown, up to 5m
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = shutdown_grace)]
    shutdown_grace: Duration,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Images")]
struct ImageArgs {
    /// Registry to reach over plain HTTP; repeatable
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", value_parser = value::registry)]
    insecure_registries: Vec<String>,

    /// Reach every registry over plain HTTP; prefer --insecure-registry
    #[arg(long)]
    allow_insecure_registries: bool,

    /// CA certificates (PEM) for registries, besides the system roots; repeatable
    #[arg(
        long = "oci-ca-path",
        value_name = "FILE",
        env = "WASH_OCI_CA_PATHS",
        value_delimiter = ','
    )]
    oci_ca_paths: Vec<PathBuf>,

    /// Image cache directory, kept across restarts [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    oci_cache_dir: Option<PathBuf>,

    /// Size limit of the image cache in MiB; the least recently used images are evicted first
    #[arg(long, value_name = "MIB", default_value_t = image::DEFAULT_IMAGE_CACHE_BYTES_MAX / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    oci_cache_size_mib: u64,

    /// Size limit of an image in MiB
    #[arg(long, value_name = "MIB", default_value_t = image::DEFAULT_IMAGE_BYTES_MAX / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    image_size_limit_mib: u64,

    /// Deadline of a whole image pull, 100ms–1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = pull_timeout)]
    registry_pull_timeout: Duration,

    /// Limit of concurrent pulls
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENT_PULLS_MAX as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    max_concurrent_pulls: u64,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Memory limit in MiB of an instance whose workload sets none
    #[arg(long, value_name = "MIB", default_value_t = config::DEFAULT_MEMORY_BYTES / MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=config::MEMORY_BYTES_MAX / MIB))]
    memory_limit_default_mib: u64,

    /// Directory that hostPath volumes may mount, with all below it; repeatable [default: all but
    /// the directories of the system]
    #[arg(long = "allow-host-path", value_name = "DIR", value_parser = value::directory)]
    allowed_host_paths: Vec<PathBuf>,

    /// Memory limit in MiB of all guests together [default: three quarters of the memory of the
    /// machine or cgroup]
    #[arg(long, value_name = "MIB")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    guest_memory_limit_mib: Option<u64>,

    /// Limit of workloads on this host
    #[arg(long, value_name = "N", default_value_t = config::DEFAULT_WORKLOADS_MAX as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=16_384))]
    max_workloads: u64,
}

const MIB: u64 = 1 << 20;
/// Maximum of sizes in MiB: one pebibyte, more than any disk and far from an overflow.
const MIB_MAX: u64 = 1 << 30;

/// Parses a command line, including the program's name, and the environment variables of the flags
/// and of the Docker config's location. Does no other I/O.
///
/// # Errors
///
/// Returns clap's error for an invalid command line. `--help` and `--version` are errors too;
/// [`clap::Error::exit`] handles all of them.
pub fn parse<I, T>(command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let mut config = parse_with(command(), command_line)?;
    config.images.docker_config = StoreOptions::docker_config_from_env();
    Ok(config)
}

fn parse_with<I, T>(mut command: Command, command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = command.try_get_matches_from_mut(command_line)?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    args.into_config()
        .map_err(|message| command.error(ErrorKind::ValueValidation, message))
}

/// Returns the command with the aliases of `wash host`. Variables may hold secrets, so `--help`
/// hides their values.
fn command() -> Command {
    let with_aliases = WASH_ALIASES
        .iter()
        .fold(Args::command(), |command, (arg, alias)| {
            command.mut_arg(arg, |arg| arg.visible_alias(alias))
        });
    with_aliases
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
            identity: IdentityConfig {
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
                allowed_host_paths: self.limits.allowed_host_paths.into(),
                guest_memory_bytes: self.limits.guest_memory_limit_mib.map(|mib| mib * MIB),
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
                "duplicate --label {key}, with the values {first:?} and {value:?}; remove one"
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
                "--allow-insecure-registries: every registry is reached over plain HTTP, so images \
                 and credentials can be read and modified in transit; \
                 prefer --insecure-registry HOST[:PORT]"
                    .to_owned(),
            );
        }
        if self.registry_pull_timeout > image::PULL_TIMEOUT_CONFORMANT_MAX {
            notices.push(format!(
                "--registry-pull-timeout is over {:?}: if a registry hangs, a start may fail later \
                 than the 60 s that schedulers wait",
                image::PULL_TIMEOUT_CONFORMANT_MAX
            ));
        }
        if self.image_size_limit_mib > self.oci_cache_size_mib {
            notices.push(
                "--image-size-limit-mib is over --oci-cache-size-mib: images that do not fit into \
                 the cache are pulled again at each start"
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
    value::duration_in(text, Duration::from_millis(100)..=image::PULL_TIMEOUT_MAX)
}

#[cfg(test)]
mod tests;
