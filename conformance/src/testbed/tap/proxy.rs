//! The listener of the tap, and the life of each connection through it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_broker::Port;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::direction::{FromTarget, ToTarget};
use super::faults::{OutagePlan, Switch};
use super::forwarder::{End, Pump};
use super::frame::{Direction, Frame, Kind};

/// How long the bus may take to accept a connection on loopback.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a side may take to read what was written to it last, once the connection is cut.
const LINGER: Duration = Duration::from_millis(200);
/// Between tries to listen again, or to accept while descriptors are short.
const RETRY: Duration = Duration::from_millis(50);

/// Listens, outages apart, until stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    port: Arc<Port>,
    mut listener: TcpListener,
    upstream: SocketAddr,
    stopped: CancellationToken,
    tasks: TaskTracker,
) {
    let switch = shared.switch.clone();
    loop {
        switch.set(|position| position.listening = true);
        tokio::select! {
            () = stopped.cancelled() => return,
            () = accept(&shared, &listener, upstream, &stopped, &tasks) => return,
            () = switch.until(|position| position.outage == Some(OutagePlan::Refuse)) => {}
        }
        drop(listener);
        port.reserve();
        switch.set(|position| position.listening = false);
        tokio::select! {
            () = stopped.cancelled() => return,
            again = listen_again(&switch, &port) => listener = again,
        }
    }
}

async fn listen_again(switch: &Switch, port: &Port) -> TcpListener {
    switch
        .until(|position| position.outage != Some(OutagePlan::Refuse))
        .await;
    loop {
        match port.listen() {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::warn!(%error, addr = %port.addr(), "the tap cannot listen again")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn accept(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    upstream: SocketAddr,
    stopped: &CancellationToken,
    tasks: &TaskTracker,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, cut) = (shared.clone(), stopped.child_token());
                tasks.spawn(async move { serve(&shared, stream, upstream, cut).await });
            }
            Err(error) => {
                tracing::warn!(%error, "the tap could not accept a connection");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    target: TcpStream,
    upstream: SocketAddr,
    cut: CancellationToken,
) {
    let switch = &shared.switch;
    match switch.get().outage {
        None => {}
        Some(OutagePlan::Refuse | OutagePlan::HangUp) => return,
        Some(OutagePlan::Mute) => {
            tokio::select! {
                () = cut.cancelled() => {}
                () = switch.until(|position| position.outage.is_none()) => {}
            }
            return;
        }
    }
    let _counted = Counted::new(switch);
    let connection = shared.connections_ever.fetch_add(1, Ordering::Relaxed) + 1;
    let note = |kind, text: &str| {
        shared.record.add(
            Frame::note(connection, Direction::FromTarget, kind, text),
            |_| (),
        );
    };
    note(Kind::Opened, "");
    let bus = tokio::select! {
        () = cut.cancelled() => return note(Kind::Closed, "the tap stopped"),
        () = outage(switch) => return note(Kind::Closed, "outage"),
        bus = connect(upstream) => bus,
    };
    match bus {
        Ok(bus) => note(
            Kind::Closed,
            &pass(shared, connection, target, bus, cut).await,
        ),
        Err(error) => note(Kind::Closed, &format!("the bus does not accept: {error}")),
    }
}

/// Passes frames both ways until the connection is over, and says why it is.
async fn pass(
    shared: &Arc<Shared>,
    connection: u64,
    target: TcpStream,
    bus: TcpStream,
    cut: CancellationToken,
) -> String {
    for socket in [&target, &bus] {
        // Without it every small reply waits for the acknowledgement of the one before.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection was lost at once");
        }
    }
    let (from_target, to_target) = target.into_split();
    let (from_bus, to_bus) = bus.into_split();
    let mut out = Pump::new(
        shared.clone(),
        connection,
        FromTarget::new(),
        from_target,
        to_bus,
    );
    let mut back = Pump::new(
        shared.clone(),
        connection,
        ToTarget::new(),
        from_bus,
        to_target,
    );
    let why = tokio::select! {
        () = cut.cancelled() => "the tap stopped".to_owned(),
        () = outage(&shared.switch) => "outage".to_owned(),
        why = both(&mut out, &mut back, &cut) => why,
    };
    cut.cancel();
    tokio::join!(out.hang_up(), back.hang_up());
    // A side that does not hang up in time is hung up on.
    let _ = tokio::time::timeout(LINGER, async {
        tokio::join!(out.swallow(), back.swallow())
    })
    .await;
    why
}

/// Runs both ways. When one side hangs up, the other way may end in its own time.
async fn both(
    out: &mut Pump<FromTarget>,
    back: &mut Pump<ToTarget>,
    cut: &CancellationToken,
) -> String {
    let mut out_run = Box::pin(out.run(cut));
    let mut back_run = Box::pin(back.run(cut));
    tokio::select! {
        end = &mut out_run => {
            let why = describe(&end, "target");
            if matches!(end, End::HungUp) {
                drop(out_run);
                out.hang_up().await;
                let _ = tokio::time::timeout(LINGER, back_run).await;
            }
            why
        }
        end = &mut back_run => {
            let why = describe(&end, "bus");
            if matches!(end, End::HungUp) {
                drop(back_run);
                back.hang_up().await;
                let _ = tokio::time::timeout(LINGER, out_run).await;
            }
            why
        }
    }
}

fn describe(end: &End, side: &str) -> String {
    match end {
        End::HungUp => format!("the {side} hung up"),
        End::Lost(error) => format!("lost: {error}"),
        End::Cut => "cut by the tap".to_owned(),
    }
}

async fn outage(switch: &Switch) {
    switch.until(|position| position.outage.is_some()).await;
}

async fn connect(upstream: SocketAddr) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Counts a connection for as long as it is there.
struct Counted<'a>(&'a Switch);

impl<'a> Counted<'a> {
    fn new(switch: &'a Switch) -> Self {
        switch.set(|position| position.connections += 1);
        Self(switch)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(|position| position.connections -= 1);
    }
}
