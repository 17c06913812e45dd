//! A TCP port that stays reserved while nothing listens on it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::net::{TcpListener, TcpSocket};

/// Accept backlog, large because a whole fleet may reconnect at the same time.
const BACKLOG: u32 = 1024;

/// Reservation of an address on which a listener can be started, dropped and started again.
///
/// Between two listeners, a bound socket reserves the port, and connections are refused.
#[derive(Debug)]
pub struct PortReservation {
    addr: SocketAddr,
    /// Bound socket while nothing listens; `None` during that time if the port could not be bound
    /// again.
    reserved: Mutex<Option<TcpSocket>>,
}

impl PortReservation {
    /// Reserves an address; port 0 selects a free port.
    ///
    /// # Errors
    /// Fails if the address cannot be bound.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = bind(addr)?;
        let addr = socket.local_addr()?;
        Ok(Self {
            addr,
            reserved: Mutex::new(Some(socket)),
        })
    }

    /// Returns the address, with the selected port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to listen. The previous listener, if any, must have been dropped.
    ///
    /// # Errors
    /// Fails if a listener exists already, or another process has taken the port.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let reserved = self.lock().take();
        reserved
            .map_or_else(|| bind(self.addr), Ok)?
            .listen(BACKLOG)
    }

    /// Reserves the port after a listener was dropped, so that no other process can take it.
    pub fn reserve(&self) {
        *self.lock() = bind(self.addr).ok();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<TcpSocket>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds an address. `[::]` stands for all addresses of both families, and for all IPv4 addresses
/// on a system without IPv6.
fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    match bind_one(addr) {
        Err(error)
            if addr.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse =>
        {
            bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
        }
        result => result,
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Connections of the previous listener may linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alternates_between_reserved_and_listening() {
        let port = PortReservation::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let taken = || TcpSocket::new_v4().unwrap().bind(port.addr()).is_err();
        assert!(taken());
        for _ in 0..3 {
            let listener = port.listen().unwrap();
            assert_eq!(listener.local_addr().unwrap(), port.addr());
            assert!(port.listen().is_err());
            drop(listener);
            port.reserve();
            assert!(taken());
        }
    }
}
