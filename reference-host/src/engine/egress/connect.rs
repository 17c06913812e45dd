//! Connects to the first reachable of several addresses (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// Time after which the next address is tried as well, as RFC 8305 recommends. An address that
/// drops packets therefore delays a connection by this time only.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Limit of the addresses that are tried, because each attempt holds a socket.
const ATTEMPTS_MAX: usize = 8;

/// Connects to the first of `addresses` that accepts. Tries them in turn, IPv6 and IPv4
/// alternating, without waiting for an attempt to fail.
///
/// # Errors
///
/// Returns the error of the last attempt if all fail.
pub async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut remaining = alternating(addresses);
    remaining.truncate(ATTEMPTS_MAX);
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        match remaining.pop_front() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let result = if remaining.is_empty() {
            attempts.next().await
        } else {
            match tokio::time::timeout(ATTEMPT_DELAY, attempts.next()).await {
                Ok(result) => result,
                Err(_) => continue,
            }
        };
        match result {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => {}
        }
    }
}

/// Orders addresses so that the families alternate, beginning with the family of the first one. The
/// order within a family stays.
fn alternating(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let mut ordered = VecDeque::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (a, b) = (first.next(), second.next());
        if a.is_none() && b.is_none() {
            return ordered;
        }
        ordered.extend(a);
        ordered.extend(b);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_alternate() {
        let addresses =
            ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(|it| it.parse().unwrap());
        let ordered: Vec<String> = alternating(addresses.to_vec())
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(ordered, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert!(alternating(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn skips_addresses_that_refuse() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let stream = connect(vec![refusing, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        let error = connect(vec![refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn unanswered_address_delays_the_next_one_by_a_moment_only() {
        // A full queue of connections that nobody accepts drops further ones.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let dropping = full.local_addr().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(dropping)).await
        {
            fill.push(stream);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let connected = connect(vec![dropping, open]);
        let stream = tokio::time::timeout(Duration::from_secs(10), connected).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), open);
    }
}
