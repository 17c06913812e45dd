//! Command line of `berth-scheduler`, which also accepts the flags of wasmCloud's operator, with
//! one dash or two, as in Go.

mod logging;
mod timing;
mod value;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use berth_sdk::cli::{ConnectArgs, GrpcServeArgs};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser};

use self::logging::LoggingArgs;
use self::timing::TimingArgs;
use self::value::{Bind, StoreName};
use crate::config::{Config, HEALTH_PORT, KubeStoreConfig, METRICS_PORT, StoreConfig};
use crate::core::Options;

/// Default namespace of Host objects in a directory store.
const DIR_NAMESPACE: &str = "default";

/// Aliases for flags that wasmCloud's operator spells differently.
const OPERATOR_FLAG_ALIASES: [(&str, &str); 3] = [
    ("nats_tls_ca", "nats-ca"),
    ("nats_tls_cert", "nats-client-cert"),
    ("nats_tls_key", "nats-client-key"),
];

const EXAMPLES: &str = "Examples:
  With a directory of manifests, without Kubernetes:
    berth-scheduler --store dir:./manifests --nats-url nats://127.0.0.1:4222
  In a cluster, with the command line of wasmCloud's chart:
    OPERATOR_NAMESPACE=wasmcloud berth-scheduler -leader-elect -nats-url=nats://nats:4222
  Outside the cluster, for workloads of one namespace:
    berth-scheduler --kubeconfig ~/.kube/config --namespace wasmcloud --watch-namespaces shop";

/// Places wasmCloud workloads on hosts and keeps them running, on Kubernetes or from a directory of
/// manifests
#[derive(Parser, Clone)]
#[command(name = "berth-scheduler", version, max_term_width = 100, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    grpc: GrpcServeArgs,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    endpoints: EndpointArgs,
    #[command(flatten)]
    log: LoggingArgs,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Store")]
struct StoreArgs {
    /// Store of manifests and status: kube, or dir:PATH
    #[arg(
        long,
        value_name = "STORE",
        env = "BERTH_STORE",
        default_value = "kube"
    )]
    #[arg(value_parser = value::store)]
    store: StoreName,

    /// Namespace of Host objects and of the Lease [default: none with kube, "default" with dir]
    #[arg(long, value_name = "NAME", env = "OPERATOR_NAMESPACE", value_parser = value::namespace)]
    namespace: Option<String>,

    /// Kubeconfig file [default: $KUBECONFIG, ~/.kube/config or the service account of the Pod]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Namespaces of workloads, comma-separated [default: all]
    #[arg(long, value_name = "NAMES", value_parser = value::namespaces, default_value = "")]
    #[arg(hide_default_value = true)]
    watch_namespaces: std::vec::Vec<String>,

    /// Additional namespaces with Pods that run hosts, comma-separated
    #[arg(long, value_name = "NAMES", value_parser = value::namespaces, default_value = "")]
    #[arg(hide_default_value = true)]
    host_namespaces: std::vec::Vec<String>,

    /// Elect a leader among several schedulers with a Lease
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    leader_elect: bool,

    /// Allow workloads on hosts whose environment differs from their namespace
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", value_name = "BOOL")]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    allow_shared_hosts: bool,

    /// Leave the status of Artifacts to another controller
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    disable_artifact_controller: bool,

    /// Take the Lease, remove the finalizers of the Pods that run hosts, and exit: for an
    /// uninstallation
    #[arg(long, conflicts_with = "watch_namespaces")]
    release_pods: bool,
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Endpoints")]
struct EndpointArgs {
    /// Address of /metrics, [IP]:PORT, or 0 for none [default: :8081 with kube, 0 with dir]
    #[arg(long, value_name = "ADDRESS", value_parser = value::bind)]
    metrics_bind_address: Option<Bind>,

    /// Address of /healthz and /readyz, [IP]:PORT, or 0 for none
    /// [default: :8082 with kube, 0 with dir]
    #[arg(long, value_name = "ADDRESS", value_parser = value::bind)]
    health_probe_bind_address: Option<Bind>,

    /// Flag of wasmCloud's operator; only false is accepted: metrics are served over plain HTTP
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false", hide = true, value_name = "BOOL")]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    metrics_secure: bool,

    /// Flag of wasmCloud's operator; has no effect
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false", hide = true, value_name = "BOOL")]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    enable_http2: bool,

    /// Ignored; accepted because wasmCloud's operator accepts the flag and ignores it
    #[arg(long, hide = true, value_name = "PERCENT")]
    cpu_backpressure_threshold: Option<f64>,

    /// Ignored; accepted because wasmCloud's operator accepts the flag and ignores it
    #[arg(long, hide = true, value_name = "PERCENT")]
    memory_backpressure_threshold: Option<f64>,
}

/// Parses a command line, beginning with the program name, and the environment variables of the
/// flags. Has no other side effects.
///
/// # Errors
///
/// Returns the error of clap, with the usage and similar flags. `--help` and `--version` are errors
/// too; [`clap::Error::exit`] handles all of them.
pub fn parse<I, T>(command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    parse_with(command(), command_line)
}

fn parse_with<I, T>(mut command: Command, command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let command_line = with_two_dashes(&command, command_line);
    let matches = command.try_get_matches_from_mut(command_line)?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    args.into_config()
        .map_err(|message| command.error(ErrorKind::ValueValidation, message))
}

/// Returns the command. `--help` hides the values of environment variables, which may be secrets.
fn command() -> Command {
    let with_aliases = OPERATOR_FLAG_ALIASES
        .iter()
        .fold(Args::command(), |command, (arg, alias)| {
            command.mut_arg(arg, |arg| arg.visible_alias(alias))
        });
    with_aliases.mut_args(|arg| arg.hide_env_values(true))
}

/// Adds the second dash to every `-flag` of the command line, as Go accepts one dash or two.
fn with_two_dashes<I, T>(command: &Command, command_line: I) -> Vec<OsString>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let mut names = BTreeSet::from(["help", "version"]);
    for arg in command.get_arguments() {
        names.extend(arg.get_long());
        names.extend(arg.get_all_aliases().unwrap_or_default());
    }
    let add_dash = |arg: OsString| {
        let flag = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        let name = flag.map(|flag| flag.split('=').next().unwrap_or(flag));
        match name {
            Some(name) if names.contains(name) => {
                let mut with_dash = OsString::from("-");
                with_dash.push(arg);
                with_dash
            }
            _ => arg,
        }
    };
    command_line
        .into_iter()
        .map(Into::into)
        .map(add_dash)
        .collect()
}

impl Args {
    fn into_config(self) -> Result<Config, String> {
        let warnings = self.endpoints.warnings()?;
        let (metrics_addr, health_addr) = self.endpoints.addresses(&self.store.store);
        let allow_shared_hosts = self.store.allow_shared_hosts;
        let collect_garbage = matches!(self.store.store, StoreName::Dir(_));
        let release_pods = self.store.release_pods;
        if release_pods && collect_garbage {
            return Err("--release-pods requires the Kubernetes store".to_owned());
        }
        let (store, host_namespace) = self.store.into_config()?;
        let options = Options {
            host_namespace,
            allow_shared_hosts,
            collect_garbage,
            timings: self.timing.into_timings()?,
            ..Options::default()
        };
        Ok(Config {
            connect: self
                .connect
                .into_options(Some("berth-scheduler".to_owned()))?,
            grpc: self.grpc.into_settings()?,
            store,
            release_pods,
            options,
            metrics_addr,
            health_addr,
            log: self.log.into_log(),
            warnings,
        })
    }
}

impl StoreArgs {
    /// Returns the store, and the namespace of the Host objects.
    fn into_config(self) -> Result<(StoreConfig, String), String> {
        match self.store {
            StoreName::Dir(path) => {
                let namespace = self.namespace.unwrap_or_else(|| DIR_NAMESPACE.to_owned());
                Ok((StoreConfig::Dir(path), namespace))
            }
            StoreName::Kube => {
                let namespace = self.namespace.ok_or(
                    "the Kubernetes store requires --namespace or OPERATOR_NAMESPACE, the namespace \
                     of Host objects; for a directory of manifests, use --store dir:PATH",
                )?;
                let config = KubeStoreConfig {
                    kubeconfig: self.kubeconfig,
                    namespace: namespace.clone(),
                    watch_namespaces: self.watch_namespaces,
                    host_namespaces: self.host_namespaces,
                    leader_elect: self.leader_elect,
                    disable_artifact_controller: self.disable_artifact_controller,
                };
                Ok((StoreConfig::Kube(config), namespace))
            }
        }
    }
}

impl EndpointArgs {
    fn warnings(&self) -> Result<Vec<String>, String> {
        if self.metrics_secure {
            return Err(
                "cannot use --metrics-secure: metrics are served over plain HTTP only; omit the \
                 flag and keep the port inside the cluster"
                    .to_owned(),
            );
        }
        let mut warnings = Vec::new();
        for (is_set, flag) in [
            (self.enable_http2, "--enable-http2"),
            (
                self.cpu_backpressure_threshold.is_some(),
                "--cpu-backpressure-threshold",
            ),
            (
                self.memory_backpressure_threshold.is_some(),
                "--memory-backpressure-threshold",
            ),
        ] {
            if is_set {
                warnings.push(format!("{flag} has no effect"));
            }
        }
        Ok(warnings)
    }

    /// Returns the addresses of the endpoints. With a directory store there are none by default, so
    /// that several schedulers can run on one machine.
    fn addresses(&self, store: &StoreName) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let default = |port| match store {
            StoreName::Kube => Some(SocketAddr::from(([0u16; 8], port))),
            StoreName::Dir(_) => None,
        };
        let address = |given: Option<Bind>, port| match given {
            None => default(port),
            Some(Bind::Off) => None,
            Some(Bind::At(address)) => Some(address),
        };
        (
            address(self.metrics_bind_address, METRICS_PORT),
            address(self.health_probe_bind_address, HEALTH_PORT),
        )
    }
}

#[cfg(test)]
mod tests;
