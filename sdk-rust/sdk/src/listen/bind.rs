//! Binding an address, also all addresses of both families.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address. `[::]` stands for all addresses of both families, and for all IPv4
/// addresses on a system without IPv6. Must be called in a Tokio runtime.
///
/// # Errors
///
/// Fails if the address is in use, not permitted or not one of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    with_fallback(address, listen)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of the previous process may linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn with_fallback<T>(
    address: SocketAddr,
    listen: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let is_final = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
        )
    };
    match listen(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && !is_final(&error) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_fall_back_to_ipv4_without_ipv6() {
        let without_ipv6 = |address: SocketAddr| match address {
            SocketAddr::V4(_) => Ok(address),
            // EAFNOSUPPORT
            SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(97)),
        };
        let bound = |address: &str| with_fallback(address.parse().unwrap(), without_ipv6);
        assert_eq!(bound("[::]:80").unwrap(), "0.0.0.0:80".parse().unwrap());
        assert_eq!(
            bound("127.0.0.1:80").unwrap(),
            "127.0.0.1:80".parse().unwrap()
        );
        for one in ["[::1]:80", "[fd00::1]:80"] {
            assert!(bound(one).is_err(), "{one}");
        }
        for error in [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied] {
            let all = "[::]:80".parse().unwrap();
            let bound = with_fallback::<()>(all, |_| Err(error.into()));
            assert_eq!(bound.unwrap_err().kind(), error);
        }
    }

    #[tokio::test]
    async fn all_addresses_accept_ipv4() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connected = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let (connected, accepted) = tokio::join!(connected, listener.accept());
        assert_eq!(
            connected.unwrap().local_addr().unwrap().port(),
            accepted.unwrap().1.port()
        );
    }
}
