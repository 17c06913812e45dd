//! The baseline linker: WASI for every guest, with the host's own name lookup.

use std::net::IpAddr;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime::{Engine, Result};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::SocketError;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};

use super::guest::Guest;

/// Returns a linker with the interfaces that every component gets without declaring them.
pub fn baseline(engine: &Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    replace_name_lookup(&mut linker)?;
    Ok(linker)
}

/// Replaces the engine's name lookup with one that checks the allow-list.
fn replace_name_lookup(linker: &mut Linker<Guest>) -> Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<Guest, NameLookup>(linker, |guest| LookupView { guest })?;
    linker.allow_shadowing(false);
    Ok(())
}

struct NameLookup;

impl HasData for NameLookup {
    type Data<'a> = LookupView<'a>;
}

struct LookupView<'a> {
    guest: &'a mut Guest,
}

impl LookupView<'_> {
    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        self.guest.sockets()
    }
}

impl network::Host for LookupView<'_> {
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

impl network::HostNetwork for LookupView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl ip_name_lookup::Host for LookupView<'_> {
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

impl ip_name_lookup::HostResolveAddressStream for LookupView<'_> {
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

fn into_ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
