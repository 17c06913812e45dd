//! `dev`: a broker, hosts and a scheduler over a directory, until Ctrl-C.

mod child;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use berth_broker::{Broker, BrokerOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::child::{Child, Ended};
use crate::args::DevArgs;
use crate::failure::Failure;

/// Hosts beat that often, so that nobody who tries things waits for the 15 s of a deployment.
const HEARTBEAT_INTERVAL: &str = "2s";

/// Runs all of it. Ends well on SIGINT, SIGTERM and SIGHUP, and leaves no process behind.
pub async fn run(args: DevArgs) -> Result<ExitCode, Failure> {
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let dir = &args.dir;
    std::fs::create_dir_all(dir).map_err(|source| Failure::Directory(dir.clone(), source))?;
    let options = BrokerOptions {
        addr: args.nats_addr,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options)
        .await
        .map_err(|source| Failure::Broker(args.nats_addr, source))?;
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
            () = any(&mut signals) => break Ok(ExitCode::SUCCESS),
            Some(ended) = scheduler.ended() => break Err(Failure::Ended(ended.to_string())),
            // A scheduler is there for the case that a host ends.
            Some(ended) = hosts.ended() => eprintln!("{ended}"),
        }
    };
    // The scheduler first: it is not to see its hosts go. A second signal ends all at once.
    let in_order = async {
        scheduler.end().await;
        hosts.end().await;
    };
    tokio::select! {
        () = in_order => {}
        () = any(&mut signals) => {}
    }
    outcome
}

/// Children that are ended together.
#[derive(Default)]
struct Group {
    stop: CancellationToken,
    children: JoinSet<Ended>,
}

impl Group {
    fn add(&mut self, child: Child) {
        self.children.spawn(child.run(self.stop.clone()));
    }

    /// The next one that has ended; none when none is left.
    async fn ended(&mut self) -> Option<Ended> {
        self.children.join_next().await?.ok()
    }

    async fn end(&mut self) {
        self.stop.cancel();
        while self.ended().await.is_some() {}
    }
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// The first host has the address that was asked for, the others the ports after it.
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
        "manifests  {dir}, status in {dir}/.berth\n\nWhat stands there is run. `berthctl --nats-url \
         {url} hosts` shows the hosts. Ctrl-C ends all of it.\n\n"
    );
    text
}
