//! Measures the latency that the tap adds to a request on loopback.
//!
//! `cargo run --release -p berth-conformance --example tap_latency [SECONDS]` sends requests
//! alternately to a service without a tap and to one behind a tap, for SECONDS (default 4) in
//! total.

use std::error::Error;
use std::time::{Duration, Instant};

use async_nats::Client;
use berth_broker::{Broker, BrokerOptions};
use berth_conformance::testbed::tap::Tap;
use futures_util::StreamExt;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(4.0), |seconds| seconds.parse())?;
    let broker = Broker::start(BrokerOptions::default()).await?;
    let tap = Tap::start(broker.addr()).await?;
    serve(&broker.url(), "direct").await?;
    serve(&tap.url(), "tapped").await?;
    let client = async_nats::connect(broker.url()).await?;
    let (mut direct, mut tapped) = (Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        direct.push(request(&client, "direct").await?);
        tapped.push(request(&client, "tapped").await?);
    }
    let (direct, tapped) = (median(direct), median(tapped));
    println!(
        "direct {direct:>8.1?}   through the tap {tapped:>8.1?}   added {:.1?}",
        tapped - direct
    );
    Ok(())
}

async fn serve(url: &str, subject: &'static str) -> Result<(), Failure> {
    let client = async_nats::connect(url).await?;
    let mut requests = client.subscribe(subject).await?;
    client.flush().await?;
    // The reply follows the subscription, so the broker has processed it.
    let _ = client.request("no.responders", "".into()).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let Some(reply) = request.reply else { continue };
            if client.publish(reply, request.payload).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn request(client: &Client, subject: &'static str) -> Result<Duration, Failure> {
    let started_at = Instant::now();
    client.request(subject, "x".repeat(256).into()).await?;
    Ok(started_at.elapsed())
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations
        .get(durations.len() / 2)
        .copied()
        .unwrap_or_default()
}
