//! HTTP throughput of a hello component on this machine: `berth-host` compared with `wasmtime
//! serve`.
//!
//! The benchmark is named `peers` after the other HTTP servers that it measures; they are not peers
//! in the host control protocol.
//!
//! Run it with `cargo xtask bench --peers`, or with `cargo bench -p berth-host --bench peers --
//! --wasmtime PROGRAM`. The servers take turns, so that other load on the machine affects both. The
//! report shows the spread of the throughput, and the processor time of each request, which depends
//! less on other load.

mod load;
mod report;
mod server_process;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use self::load::Load;
use self::server_process::ServerProcess;

/// Compares the HTTP throughput of berth-host with that of `wasmtime serve`.
#[derive(Parser)]
#[command(name = "peers")]
struct Args {
    /// Path of the wasmtime program [default: none, berth-host only]
    #[arg(long, value_name = "PROGRAM")]
    wasmtime: Option<PathBuf>,

    /// Number of runs of each server
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,

    /// Measured time of each run in seconds
    #[arg(long, value_name = "S", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// Number of connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,

    /// Flag that `cargo bench` adds; without it (`cargo test --benches`) nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

/// Time before each measured run, so that connections, caches and pools are warm.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if !args.bench {
        println!("peers: measures only in `cargo bench`");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare(args))
}

async fn compare(args: Args) -> Result<(), Box<dyn Error>> {
    let component =
        berth_conformance::testbed::guest::image(berth_conformance::spec::roles::Role::Hello)?;
    let mut servers = Vec::new();
    if let Some(program) = &args.wasmtime {
        servers.push(ServerProcess::wasmtime_serve(program, &component).await?);
    }
    servers.push(ServerProcess::berth_host(component).await?);

    let duration = Duration::from_secs(args.seconds);
    println!(
        "{}",
        report::header(args.connections, args.rounds, duration, WARM_UP)
    );
    let mut runs = vec![Vec::new(); servers.len()];
    for round in 1..=args.rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            let load = Load {
                address: server.address,
                host: server.host,
            };
            load.run(args.connections, WARM_UP).await?;
            let before = server.cpu_time();
            let measurements = load.run(args.connections, duration).await?;
            let cpu_time = server
                .cpu_time()
                .zip(before)
                .map(|(after, before)| after - before);
            let run = report::Run::new(measurements, cpu_time);
            println!("  round {round}  {:<22} {run}", server.name);
            runs.push(run);
        }
    }
    let named = servers.iter().map(|it| it.name.as_str()).zip(runs);
    println!("{}", report::summary(&named.collect::<Vec<_>>()));
    Ok(())
}
