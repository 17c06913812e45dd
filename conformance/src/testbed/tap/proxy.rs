//! The listener of the tap, and the lifecycle of its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_broker::PortReservation;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::direction::{FromTarget, ToTarget};
use super::faults::{Faults, OutageMode};
use super::forwarder::{End, Forwarder};
use super::frame::{Direction, Frame, FrameKind};

/// Timeout of a connection to the bus on loopback.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that each side has to read the last data before the connection is closed.
const LINGER: Duration = Duration::from_millis(200);
/// Interval between attempts to listen again, or to accept when file descriptors are short.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Listens until stopped, except during outages that refuse connections.
pub(super) async fn run(
    shared: Arc<Shared>,
    port: Arc<PortReservation>,
    mut listener: TcpListener,
    upstream: SocketAddr,
    stopped: CancellationToken,
    tasks: TaskTracker,
) {
    let faults = shared.faults.clone();
    loop {
        faults.update(|state| state.listening = true);
        tokio::select! {
            () = stopped.cancelled() => return,
            () = accept(&shared, &listener, upstream, &stopped, &tasks) => return,
            () = faults.wait_for(|state| state.outage == Some(OutageMode::Refuse)) => {}
        }
        drop(listener);
        port.reserve();
        faults.update(|state| state.listening = false);
        tokio::select! {
            () = stopped.cancelled() => return,
            again = listen_again(&faults, &port) => listener = again,
        }
    }
}

async fn listen_again(faults: &Faults, port: &PortReservation) -> TcpListener {
    faults
        .wait_for(|state| state.outage != Some(OutageMode::Refuse))
        .await;
    loop {
        match port.listen() {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::warn!(%error, addr = %port.addr(), "the tap cannot listen again")
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
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
                let (shared, cancel) = (shared.clone(), stopped.child_token());
                tasks.spawn(async move { serve(&shared, stream, upstream, cancel).await });
            }
            Err(error) => {
                tracing::warn!(%error, "the tap cannot accept a connection");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    target: TcpStream,
    upstream: SocketAddr,
    cancel: CancellationToken,
) {
    let faults = &shared.faults;
    match faults.state().outage {
        None => {}
        Some(OutageMode::Refuse | OutageMode::CloseOnAccept) => return,
        Some(OutageMode::Unresponsive) => {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = faults.wait_for(|state| state.outage.is_none()) => {}
            }
            return;
        }
    }
    let _counted = Counted::new(faults);
    let connection = shared.opened_connections.fetch_add(1, Ordering::Relaxed) + 1;
    let record = |kind, text: &str| {
        shared.recording.add(
            Frame::with_text(connection, Direction::FromTarget, kind, text),
            |_| (),
        );
    };
    record(FrameKind::Opened, "");
    let bus = tokio::select! {
        () = cancel.cancelled() => return record(FrameKind::Closed, "the tap stopped"),
        () = wait_for_outage(faults) => return record(FrameKind::Closed, "outage"),
        bus = connect(upstream) => bus,
    };
    match bus {
        Ok(bus) => record(
            FrameKind::Closed,
            &forward(shared, connection, target, bus, cancel).await,
        ),
        Err(error) => record(
            FrameKind::Closed,
            &format!("cannot connect to the bus: {error}"),
        ),
    }
}

/// Forwards frames in both directions until the connection ends, and returns the reason.
async fn forward(
    shared: &Arc<Shared>,
    connection: u64,
    target: TcpStream,
    bus: TcpStream,
    cancel: CancellationToken,
) -> String {
    for socket in [&target, &bus] {
        // Nagle's algorithm would delay every small reply until the previous one is acknowledged.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    }
    let (from_target, to_target) = target.into_split();
    let (from_bus, to_bus) = bus.into_split();
    let mut outbound = Forwarder::new(
        shared.clone(),
        connection,
        FromTarget::new(),
        from_target,
        to_bus,
    );
    let mut inbound = Forwarder::new(
        shared.clone(),
        connection,
        ToTarget::new(),
        from_bus,
        to_target,
    );
    let reason = tokio::select! {
        () = cancel.cancelled() => "the tap stopped".to_owned(),
        () = wait_for_outage(&shared.faults) => "outage".to_owned(),
        reason = run_both(&mut outbound, &mut inbound, &cancel) => reason,
    };
    cancel.cancel();
    tokio::join!(outbound.shut_down_writer(), inbound.shut_down_writer());
    // A side that does not close the connection in time is disconnected.
    let _ = tokio::time::timeout(LINGER, async {
        tokio::join!(outbound.discard_input(), inbound.discard_input())
    })
    .await;
    reason
}

/// Runs both directions. After one side has closed the connection, the other direction may
/// complete.
async fn run_both(
    outbound: &mut Forwarder<FromTarget>,
    inbound: &mut Forwarder<ToTarget>,
    cancel: &CancellationToken,
) -> String {
    let mut outbound_run = Box::pin(outbound.run(cancel));
    let mut inbound_run = Box::pin(inbound.run(cancel));
    tokio::select! {
        end = &mut outbound_run => {
            let reason = describe(&end, "target");
            if matches!(end, End::Closed) {
                drop(outbound_run);
                outbound.shut_down_writer().await;
                let _ = tokio::time::timeout(LINGER, inbound_run).await;
            }
            reason
        }
        end = &mut inbound_run => {
            let reason = describe(&end, "bus");
            if matches!(end, End::Closed) {
                drop(inbound_run);
                inbound.shut_down_writer().await;
                let _ = tokio::time::timeout(LINGER, outbound_run).await;
            }
            reason
        }
    }
}

fn describe(end: &End, side: &str) -> String {
    match end {
        End::Closed => format!("closed by the {side}"),
        End::Lost(error) => format!("connection lost: {error}"),
        End::ClosedByTap => "closed by the tap".to_owned(),
    }
}

async fn wait_for_outage(faults: &Faults) {
    faults.wait_for(|state| state.outage.is_some()).await;
}

async fn connect(upstream: SocketAddr) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Counts an open connection until it is dropped.
struct Counted<'a>(&'a Faults);

impl<'a> Counted<'a> {
    fn new(faults: &'a Faults) -> Self {
        faults.update(|state| state.connections += 1);
        Self(faults)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.connections -= 1);
    }
}
