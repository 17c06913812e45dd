//! The baseline linker: WASI for every guest, with the host's own name lookup and bounds.

use std::net::IpAddr;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime::{Engine, Result};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, IpAddress, IpAddressFamily, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};

use super::file_guard::replace_open_at;
use super::guest::Guest;
use crate::descriptors;

/// Returns a linker with the interfaces that every component gets without declaring them.
pub fn baseline(engine: &Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    replace_socket_functions(&mut linker)?;
    replace_open_at(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// Replaces the engine's name lookup with one that checks the allow-list, and the creation of
/// sockets with one that leaves descriptors to the host.
fn replace_socket_functions(linker: &mut Linker<Guest>) -> Result<()> {
    ip_name_lookup::add_to_linker::<Guest, Sockets>(linker, |guest| SocketsView { guest })?;
    tcp_create_socket::add_to_linker::<Guest, Sockets>(linker, |guest| SocketsView { guest })?;
    udp_create_socket::add_to_linker::<Guest, Sockets>(linker, |guest| SocketsView { guest })
}

struct Sockets;

impl HasData for Sockets {
    type Data<'a> = SocketsView<'a>;
}

struct SocketsView<'a> {
    guest: &'a mut Guest,
}

impl SocketsView<'_> {
    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        self.guest.sockets()
    }
}

impl network::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
        self.sockets().convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> Result<Option<ErrorCode>> {
        self.sockets().network_error_code(error)
    }
}

impl network::HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl ip_name_lookup::Host for SocketsView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        if !self.guest.egress().allows_lookup(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let stream = self.sockets().resolve_addresses(network, name.clone())?;
        self.guest.resolved_names.begin(stream.rep(), name);
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for SocketsView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let id = stream.rep();
        let address = self.sockets().resolve_next_address(stream)?;
        if let Some(address) = address {
            self.guest.resolved_names.record(id, into_ip(address));
        }
        Ok(address)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Resource<DynPollable>> {
        self.sockets().subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> Result<()> {
        self.guest.resolved_names.end(stream.rep());
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.sockets(), stream)
    }
}

impl tcp_create_socket::Host for SocketsView<'_> {
    fn create_tcp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<TcpSocket>, SocketError> {
        check_descriptors()?;
        self.sockets().create_tcp_socket(family)
    }
}

impl udp_create_socket::Host for SocketsView<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<UdpSocket>, SocketError> {
        check_descriptors()?;
        self.sockets().create_udp_socket(family).await
    }
}

fn check_descriptors() -> Result<(), SocketError> {
    if descriptors::guests_may_open() {
        Ok(())
    } else {
        Err(ErrorCode::NewSocketLimit.into())
    }
}

fn into_ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
