//! A TCP port that stays ours while nobody listens on it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted: a whole fleet that comes back at once.
const BACKLOG: u32 = 1024;

/// An address on which listening can begin, end and begin again.
///
/// While nobody listens, a bound socket keeps the port from others, and connections are refused.
#[derive(Debug)]
pub struct Port {
    addr: SocketAddr,
    /// There while nobody listens, if it could be had.
    reserved: Mutex<Option<TcpSocket>>,
}

impl Port {
    /// Takes an address; port 0 picks a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = bind(addr)?;
        let addr = socket.local_addr()?;
        Ok(Self {
            addr,
            reserved: Mutex::new(Some(socket)),
        })
    }

    /// The address, with the port that was picked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to listen. The listener before, if any, must have been dropped.
    ///
    /// # Errors
    /// When the port is listened on, here or, after it was lost, elsewhere.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let reserved = self.lock().take();
        reserved
            .map_or_else(|| bind(self.addr), Ok)?
            .listen(BACKLOG)
    }

    /// Keeps the port after a listener was dropped. Without it another process may take the port.
    pub fn reserve(&self) {
        *self.lock() = bind(self.addr).ok();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<TcpSocket>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Connections of the listener before may linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_port_is_kept_and_listened_on_by_turns() {
        let port = Port::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
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
