//! The command line of `berth-scheduler`: our own flags, and those of upstream's operator for the same things, also in
//! the form with one dash that Go takes.

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
use crate::config::{Config, HEALTH_PORT, KubeChoice, METRICS_PORT, StoreChoice};
use crate::core::Options;

/// The namespace of the Host objects in a directory when nothing else is said.
const DIR_NAMESPACE: &str = "default";

/// How upstream's operator spells what all our programs spell otherwise.
const UPSTREAM_SPELLINGS: [(&str, &str); 3] = [
    ("nats_tls_ca", "nats-ca"),
    ("nats_tls_cert", "nats-client-cert"),
    ("nats_tls_key", "nats-client-key"),
];

const EXAMPLES: &str = "Examples:
  A directory of manifests, no Kubernetes:
    berth-scheduler --store dir:./manifests --nats-url nats://127.0.0.1:4222
  In a cluster, as upstream's chart runs its operator:
    OPERATOR_NAMESPACE=wasmcloud berth-scheduler -leader-elect -nats-url=nats://nats:4222
  Against a cluster from outside, one namespace only:
    berth-scheduler --kubeconfig ~/.kube/config --namespace wasmcloud --watch-namespaces shop";

/// Places wasmCloud workloads on hosts and keeps them running, for Kubernetes or for a directory of manifests.
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
    /// Where manifests and status are: kube, or dir:PATH
    #[arg(
        long,
        value_name = "STORE",
        env = "BERTH_STORE",
        default_value = "kube"
    )]
    #[arg(value_parser = value::store)]
    store: StoreName,

    /// The namespace of Host objects and of the Lease [default with dir: default]
    #[arg(long, value_name = "NAME", env = "OPERATOR_NAMESPACE", value_parser = value::namespace)]
    namespace: Option<String>,

    /// Instead of $KUBECONFIG, ~/.kube/config or the Pod's own account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Namespaces of workloads, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_parser = value::namespaces, default_value = "")]
    #[arg(hide_default_value = true)]
    watch_namespaces: std::vec::Vec<String>,

    /// Further namespaces of the Pods of hosts, separated by commas
    #[arg(long, value_name = "NAMES", value_parser = value::namespaces, default_value = "")]
    #[arg(hide_default_value = true)]
    host_namespaces: std::vec::Vec<String>,

    /// Agree by a Lease with other schedulers on who acts
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(
        default_value = "false",
        hide_default_value = true,
        value_name = "BOOL"
    )]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    leader_elect: bool,

    /// Whether workloads may run on hosts whose environment is not their namespace
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
}

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Endpoints")]
struct EndpointArgs {
    /// Where /metrics is, [IP]:PORT or 0 for nowhere [default: :8081 with kube, 0 with dir]
    #[arg(long, value_name = "ADDRESS", value_parser = value::bind)]
    metrics_bind_address: Option<Bind>,

    /// Where /healthz and /readyz are, [IP]:PORT or 0 for nowhere [default: :8082 with kube, 0 with dir]
    #[arg(long, value_name = "ADDRESS", value_parser = value::bind)]
    health_probe_bind_address: Option<Bind>,

    /// Accepted for upstream's operator; only false, as metrics are served over plain HTTP
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false", hide = true, value_name = "BOOL")]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    metrics_secure: bool,

    /// Accepted for upstream's operator, without effect
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "false", hide = true, value_name = "BOOL")]
    #[arg(value_parser = value::boolean, action = clap::ArgAction::Set)]
    enable_http2: bool,

    /// Accepted for upstream's operator, where it has no effect either
    #[arg(long, hide = true, value_name = "PERCENT")]
    cpu_backpressure_threshold: Option<f64>,

    /// Accepted for upstream's operator, where it has no effect either
    #[arg(long, hide = true, value_name = "PERCENT")]
    memory_backpressure_threshold: Option<f64>,
}

/// Reads a command line, the program's name first, and the variables that the flags name. Touches nothing else.
///
/// # Errors
///
/// What clap says: the mistake, the near spelling, the usage. `--help` and `--version` are such "errors" too;
/// [`clap::Error::exit`] does the right thing for all.
pub fn parse<I, T>(command_line: I) -> Result<Config, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    read(command(), command_line)
}

fn read<I, T>(mut command: Command, command_line: I) -> Result<Config, clap::Error>
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

/// Variables may hold secrets, so `--help` does not show their values.
fn command() -> Command {
    let spelled = UPSTREAM_SPELLINGS
        .iter()
        .fold(Args::command(), |command, (arg, spelling)| {
            command.mut_arg(arg, |arg| arg.visible_alias(spelling))
        });
    spelled.mut_args(|arg| arg.hide_env_values(true))
}

/// Go's flags have one dash or two. What has one and is the name of a flag gets the second.
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
    let doubled = |word: OsString| {
        let flag = word.to_str().and_then(|word| word.strip_prefix('-'));
        let name = flag.map(|flag| flag.split('=').next().unwrap_or(flag));
        match name {
            Some(name) if names.contains(name) => {
                let mut doubled = OsString::from("-");
                doubled.push(word);
                doubled
            }
            _ => word,
        }
    };
    command_line
        .into_iter()
        .map(Into::into)
        .map(doubled)
        .collect()
}

impl Args {
    fn into_config(self) -> Result<Config, String> {
        let notices = self.endpoints.notices()?;
        let (metrics_addr, health_addr) = self.endpoints.addresses(&self.store.store);
        let allow_shared_hosts = self.store.allow_shared_hosts;
        let collect_garbage = matches!(self.store.store, StoreName::Dir(_));
        let (store, host_namespace) = self.store.into_choice()?;
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
            options,
            metrics_addr,
            health_addr,
            log: self.log.into_log(),
            notices,
        })
    }
}

impl StoreArgs {
    /// The store, and the namespace of the Host objects.
    fn into_choice(self) -> Result<(StoreChoice, String), String> {
        match self.store {
            StoreName::Dir(path) => {
                let namespace = self.namespace.unwrap_or_else(|| DIR_NAMESPACE.to_owned());
                Ok((StoreChoice::Dir(path), namespace))
            }
            StoreName::Kube => {
                let namespace = self.namespace.ok_or(
                    "with Kubernetes as the store, say by --namespace or OPERATOR_NAMESPACE which namespace \
                     Host objects are in; for a directory of manifests use --store dir:PATH",
                )?;
                let choice = KubeChoice {
                    kubeconfig: self.kubeconfig,
                    namespace: namespace.clone(),
                    watch_namespaces: self.watch_namespaces,
                    host_namespaces: self.host_namespaces,
                    leader_elect: self.leader_elect,
                    disable_artifact_controller: self.disable_artifact_controller,
                };
                Ok((StoreChoice::Kube(choice), namespace))
            }
        }
    }
}

impl EndpointArgs {
    fn notices(&self) -> Result<Vec<String>, String> {
        if self.metrics_secure {
            return Err(
                "--metrics-secure: metrics are served over plain HTTP only; leave it out, and keep the port \
                 inside the cluster"
                    .to_owned(),
            );
        }
        let mut notices = Vec::new();
        for (given, flag) in [
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
            if given {
                notices.push(format!("{flag} has no effect"));
            }
        }
        Ok(notices)
    }

    /// Two schedulers over directories on one machine must not fight for a port, so there is none by default.
    fn addresses(&self, store: &StoreName) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let any = |port| match store {
            StoreName::Kube => Some(SocketAddr::from(([0u16; 8], port))),
            StoreName::Dir(_) => None,
        };
        let address = |given: Option<Bind>, port| match given {
            None => any(port),
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
