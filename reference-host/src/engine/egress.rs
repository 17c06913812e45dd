//! Asks the allow-lists before a guest reaches out: HTTP requests, sockets, name lookups.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::SocketError;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks, default_send_request,
};

use super::guest::Guest;
use crate::breakage::Breakage;
use crate::egress::{Egress, Protocol};

/// How long a guest's outgoing request may wait for a connection and for each piece of the answer,
/// when the guest asks for more or says nothing.
const MAX_OUTGOING_WAIT: Duration = Duration::from_secs(60);

/// Looked-up addresses that are remembered for one instance; a guest that looks up more must connect
/// soon after.
const MAX_LOOKED_UP: usize = 256;

/// Outgoing requests of one component at one moment; further ones wait. Each holds a connection.
const MAX_OUTGOING_REQUESTS: usize = 128;

/// Outgoing HTTP of one component; a cheap clone.
#[derive(Clone)]
pub struct OutgoingHttp {
    egress: Arc<Egress>,
    permits: Arc<Semaphore>,
}

impl OutgoingHttp {
    pub fn new(egress: Arc<Egress>) -> Self {
        Self {
            egress,
            permits: Arc::new(Semaphore::new(MAX_OUTGOING_REQUESTS)),
        }
    }

    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    fn allows(&self, uri: &http::Uri) -> bool {
        if Breakage::OpenEgress.is_on() || Breakage::ClosedEgress.is_on() {
            return Breakage::OpenEgress.is_on();
        }
        let scheme = uri.scheme_str().unwrap_or("https");
        let default_port = if scheme == "http" { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        uri.host()
            .is_some_and(|host| self.egress.allows_http(scheme, host, port))
    }
}

type Sent = Result<(http::Response<WasiBody>, Transfer), HttpError>;
type Transfer = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for OutgoingHttp {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Transfer,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if !self.allows(request.uri()) {
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        }
        let (options, permits) = (bounded(options), self.permits.clone());
        Box::new(async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| HttpError::ConfigurationError)?;
            let (response, transfer) = default_send_request(request, Some(options)).await?;
            let transfer = async move {
                let _permit = permit;
                transfer.await
            };
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(transfer) as Transfer,
            ))
        })
    }
}

fn bounded(options: Option<RequestOptions>) -> RequestOptions {
    let mut options = options.unwrap_or_default();
    for wait in [
        &mut options.connect_timeout,
        &mut options.first_byte_timeout,
        &mut options.between_bytes_timeout,
    ] {
        *wait = Some(wait.unwrap_or(MAX_OUTGOING_WAIT).min(MAX_OUTGOING_WAIT));
    }
    options
}

/// The addresses that one instance learned by name, so that a socket to such an address can be
/// judged by the name that it came from.
#[derive(Clone, Default)]
pub struct LookedUp(Arc<Mutex<Lookups>>);

#[derive(Default)]
struct Lookups {
    names: HashMap<IpAddr, String>,
    pending: HashMap<u32, String>,
}

impl LookedUp {
    fn with<R>(&self, act: impl FnOnce(&mut Lookups) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Verdict = Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

/// Judges each address that a socket is used with. A socket may be bound to an address that the
/// system chooses, which connecting needs; it may not listen.
pub fn socket_check(
    egress: Arc<Egress>,
    looked_up: LookedUp,
) -> impl Fn(SocketAddr, SocketAddrUse) -> Verdict + Send + Sync + 'static {
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
        let name = looked_up.with(|lookups| lookups.names.get(&address.ip()).cloned());
        let allowed = egress.allows_socket(protocol, address, name.as_deref());
        Box::pin(std::future::ready(allowed))
    }
}

/// Puts our name lookup, which asks the allow-list, in the place of the engine's own.
pub fn add_name_lookup(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
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
    fn engine(&mut self) -> WasiSocketsCtxView<'_> {
        self.guest.sockets()
    }
}

impl network::Host for LookupView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.engine().convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.engine().network_error_code(error)
    }
}

impl network::HostNetwork for LookupView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.engine(), network)
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
        let stream = self.engine().resolve_addresses(network, name.clone())?;
        self.guest.looked_up.with(|lookups| {
            if lookups.pending.len() < MAX_LOOKED_UP {
                lookups.pending.insert(stream.rep(), name);
            }
        });
        Ok(stream)
    }
}

impl ip_name_lookup::HostResolveAddressStream for LookupView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let id = stream.rep();
        let address = self.engine().resolve_next_address(stream)?;
        if let Some(address) = address {
            self.guest
                .looked_up
                .with(|lookups| lookups.learn(id, into_ip(address)));
        }
        Ok(address)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.engine().subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.guest
            .looked_up
            .with(|lookups| lookups.pending.remove(&stream.rep()));
        ip_name_lookup::HostResolveAddressStream::drop(&mut self.engine(), stream)
    }
}

impl Lookups {
    fn learn(&mut self, stream: u32, address: IpAddr) {
        let Some(name) = self.pending.get(&stream) else {
            return;
        };
        if self.names.len() >= MAX_LOOKED_UP {
            self.names.clear();
        }
        self.names.insert(address, name.clone());
    }
}

fn into_ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
