//! `berthctl dev`: a broker, hosts and a scheduler for a directory, until Ctrl-C.

mod child;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use berth_broker::{Broker, BrokerOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::child::{Child, Exit};
use crate::args::DevArgs;
use crate::failure::Failure;

/// Heartbeat interval of the hosts, shorter than the default of 15 s.
const HEARTBEAT_INTERVAL: &str = "2s";

/// Limit of open files that is asked for at most: a file for each of the broker's connections, with
/// headroom. Some systems refuse more.
const WANTED_FILES: u64 = 1 << 16;

/// Runs until SIGINT, SIGTERM or SIGHUP, and leaves no process behind.
pub async fn run(args: DevArgs) -> Result<ExitCode, Failure> {
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    raise_file_limit();
    let dir = &args.dir;
    std::fs::create_dir_all(dir).map_err(|source| Failure::CreateDirectory(dir.clone(), source))?;
    let options = BrokerOptions {
        addr: args.nats_addr,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options)
        .await
        .map_err(|source| Failure::StartBroker(args.nats_addr, source))?;
    let url = broker.url();
    let (mut hosts, mut scheduler) = (Group::default(), Group::default());
    for index in 0..args.hosts {
        let name = format!("host-{}", index + 1);
        let flags = host_flags(&args, index, &url);
        hosts.add(Child::spawn(&name, "berth-host", flags)?);
    }
    let store = format!("dir:{}", dir.display());
    let flags = ["--store".to_owned(), store, "--nats-url".to_owned(), url];
    scheduler.add(Child::spawn("scheduler", "berth-scheduler", flags.into())?);
    print!("{}", describe(&args, &broker.url()));

    let outcome = loop {
        tokio::select! {
            () = any_signal(&mut signals) => break Ok(ExitCode::SUCCESS),
            Some(exit) = scheduler.next_exit() => {
                break Err(Failure::ProgramExited(exit.to_string()));
            }
            // The scheduler handles the loss of a host.
            Some(exit) = hosts.next_exit() => eprintln!("{exit}"),
        }
    };
    // The scheduler first, so that it does not react to the end of the hosts. A second signal skips
    // the graceful shutdown.
    let graceful = async {
        scheduler.stop().await;
        hosts.stop().await;
    };
    tokio::select! {
        () = graceful => {}
        () = any_signal(&mut signals) => {}
    }
    outcome
}

/// Raises the soft limit of open files, which is often low, towards the hard limit.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(
            Resource::RLIMIT_NOFILE,
            hard.min(WANTED_FILES).max(soft),
            hard,
        )
    });
    if let Err(error) = raised {
        eprintln!("cannot raise the limit of open files: {error}");
    }
}

/// Child processes that are stopped together.
#[derive(Default)]
struct Group {
    stop: CancellationToken,
    children: JoinSet<Exit>,
}

impl Group {
    fn add(&mut self, child: Child) {
        self.children.spawn(child.run(self.stop.clone()));
    }

    /// Waits for the next exit; returns `None` if no child is left.
    async fn next_exit(&mut self) -> Option<Exit> {
        self.children.join_next().await?.ok()
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        while self.next_exit().await.is_some() {}
    }
}

async fn any_signal([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Returns the HTTP address of a host: the given one for the first host, then the ports after it.
fn http_addr(args: &DevArgs, index: u16) -> SocketAddr {
    let mut addr = args.http_addr;
    if addr.port() != 0 {
        addr.set_port(addr.port().saturating_add(index));
    }
    addr
}

fn host_flags(args: &DevArgs, index: u16, url: &str) -> Vec<String> {
    let http_addr = http_addr(args, index).to_string();
    let mut flags = vec!["--nats-url", url];
    flags.extend(["--http-addr", &http_addr]);
    flags.extend(["--heartbeat-interval", HEARTBEAT_INTERVAL]);
    for registry in &args.insecure_registries {
        flags.extend(["--insecure-registry", registry]);
    }
    flags.into_iter().map(str::to_owned).collect()
}

fn describe(args: &DevArgs, url: &str) -> String {
    let mut text = format!("broker     {url}\n");
    // Writing to a string does not fail.
    for index in 0..args.hosts {
        let addr = http_addr(args, index);
        let _ = match addr.port() {
            0 => writeln!(text, "host-{}     HTTP on a free port", index + 1),
            _ => writeln!(text, "host-{}     http://{addr}", index + 1),
        };
    }
    let dir = args.dir.display();
    let _ = write!(
        text,
        "manifests  {dir}, status in {dir}/.berth\n\nThe scheduler runs these manifests. List the \
         hosts with `berthctl --nats-url {url} hosts`. Press Ctrl-C to stop.\n\n"
    );
    text
}
