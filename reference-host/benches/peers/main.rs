//! HTTP throughput of a hello component: `berth-host` beside `wasmtime serve`, on this machine, now.
//!
//! `cargo xtask bench --peers` runs it; by hand: `cargo bench -p berth-host --bench peers -- --wasmtime PROGRAM`.
//! The contestants take turns, so that what else the machine does meets both; throughput is told with its spread
//! and beside it the processor time that each request took, which noise disturbs less.

mod contestant;
mod load;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use self::contestant::Contestant;
use self::load::Load;

/// Compares the HTTP throughput of berth-host with that of `wasmtime serve`.
#[derive(Parser)]
#[command(name = "peers")]
struct Args {
    /// The wasmtime program to compare with; without it berth-host is measured alone
    #[arg(long, value_name = "PROGRAM")]
    wasmtime: Option<PathBuf>,

    /// How often each contestant runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,

    /// How long each run is measured
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// Connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,

    /// What `cargo bench` adds; without it nothing is measured, as in `cargo test --benches`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Before each measured run, so that connections, caches and pools are warm.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if !args.bench {
        println!("peers: nothing is measured outside of `cargo bench`");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare(args))
}

async fn compare(args: Args) -> Result<(), Box<dyn Error>> {
    let component = berth_conformance::guest::image(berth_conformance::role::Role::Hello)?;
    let mut contestants = Vec::new();
    if let Some(program) = &args.wasmtime {
        contestants.push(Contestant::wasmtime_serve(program, &component).await?);
    }
    contestants.push(Contestant::berth_host(component).await?);

    let measured = Duration::from_secs(args.seconds);
    println!(
        "{}",
        report::setting(args.connections, args.rounds, measured, WARM_UP)
    );
    let mut runs = vec![Vec::new(); contestants.len()];
    for round in 1..=args.rounds {
        for (contestant, runs) in contestants.iter().zip(&mut runs) {
            let load = Load {
                address: contestant.address,
                host: contestant.host,
            };
            load.run(args.connections, WARM_UP).await?;
            let before = contestant.cpu_time();
            let tally = load.run(args.connections, measured).await?;
            let cpu_time = contestant
                .cpu_time()
                .zip(before)
                .map(|(now, then)| now - then);
            let run = report::Run::new(tally, cpu_time);
            println!("  round {round}  {:<22} {run}", contestant.name);
            runs.push(run);
        }
    }
    let named = contestants.iter().map(|it| it.name.as_str()).zip(runs);
    println!("{}", report::summary(&named.collect::<Vec<_>>()));
    Ok(())
}
