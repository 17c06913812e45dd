//! The names that a guest resolved, by which its sockets are judged.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::sockets::SocketAddrUse;

use crate::egress::{Egress, Protocol};

/// Limit of resolved addresses and names, and of lookups in progress, that are kept for one
/// instance. When the limit is reached, all addresses are forgotten, so a guest that resolves many
/// names must connect right after each lookup.
const MAX_RESOLVED_NAMES: usize = 256;

/// The names that one instance resolved, by address, so that a socket to an address can be checked
/// by name.
#[derive(Clone, Default)]
pub struct ResolvedNames(Arc<Mutex<Lookups>>);

#[derive(Default)]
struct Lookups {
    /// Pairs of an address and a name that was resolved to it. Several names may have one address.
    resolved: HashSet<(IpAddr, String)>,
    /// Names of the lookups in progress, by the id of their stream of addresses.
    name_by_stream: HashMap<u32, String>,
}

impl ResolvedNames {
    /// Records that `stream` returns the addresses of `name`.
    pub fn begin(&self, stream: u32, name: String) {
        let mut lookups = self.lock();
        if lookups.name_by_stream.len() < MAX_RESOLVED_NAMES {
            lookups.name_by_stream.insert(stream, name);
        }
    }

    /// Records that `stream` returned `address`.
    pub fn record(&self, stream: u32, address: IpAddr) {
        let mut lookups = self.lock();
        let Some(name) = lookups.name_by_stream.get(&stream).cloned() else {
            return;
        };
        if lookups.resolved.len() >= MAX_RESOLVED_NAMES {
            lookups.resolved.clear();
        }
        lookups.resolved.insert((address.to_canonical(), name));
    }

    /// Forgets the stream of a finished lookup.
    pub fn end(&self, stream: u32) {
        self.lock().name_by_stream.remove(&stream);
    }

    fn names_of(&self, address: IpAddr) -> Vec<String> {
        let address = address.to_canonical();
        let lookups = self.lock();
        let names = lookups.resolved.iter().filter(|(it, _)| *it == address);
        names.map(|(_, name)| name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lookups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type CheckFuture = Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

/// Returns the function that checks each address with which a guest uses a socket. A socket may
/// bind to an address that the system chooses, because connecting needs it. It may not listen.
pub fn socket_check(
    egress: Arc<Egress>,
    resolved_names: ResolvedNames,
) -> impl Fn(SocketAddr, SocketAddrUse) -> CheckFuture + Send + Sync + 'static {
    move |address, usage| {
        let protocol = match usage {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                let chosen_by_system = address.ip().is_unspecified() && address.port() == 0;
                return Box::pin(std::future::ready(chosen_by_system));
            }
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => {
                return Box::pin(std::future::ready(false));
            }
            SocketAddrUse::TcpConnect => Protocol::Tcp,
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => Protocol::Udp,
        };
        let names = resolved_names.names_of(address.ip());
        let allowed = egress.allows_socket(protocol, address, names.iter().map(String::as_str));
        Box::pin(std::future::ready(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_name_of_an_address() {
        let names = ResolvedNames::default();
        let address = IpAddr::from([192, 0, 2, 7]);
        for (stream, name) in [(1, "a.example"), (2, "b.example")] {
            names.begin(stream, name.to_owned());
            names.record(stream, address);
            names.end(stream);
        }
        let mut found = names.names_of("::ffff:192.0.2.7".parse().unwrap());
        found.sort();
        assert_eq!(found, ["a.example", "b.example"]);
    }

    #[test]
    fn number_of_names_is_bounded() {
        let names = ResolvedNames::default();
        for stream in 0..1000 {
            names.begin(stream, format!("{stream}.example"));
            names.record(stream, IpAddr::from([192, 0, 2, 7]));
            names.end(stream);
            assert!(names.lock().resolved.len() <= MAX_RESOLVED_NAMES);
        }
    }
}
