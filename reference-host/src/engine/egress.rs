//! Enforces the allow-lists when a guest sends HTTP requests or uses sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks, default_send_request,
};

use crate::egress::{Egress, Protocol};
use crate::fault_injection::Breakage;

/// Upper limit and default of the timeouts of a guest's outgoing request: connecting, the first
/// byte, and each further part of the response.
const MAX_OUTGOING_TIMEOUT: Duration = Duration::from_secs(60);

/// Limit of resolved addresses, and of lookups in progress, that are kept for one instance. When
/// the limit is reached, all addresses are forgotten, so a guest that resolves many names must
/// connect right after each lookup.
const MAX_RESOLVED_NAMES: usize = 256;

/// Limit of concurrent outgoing requests of one component, because each holds a connection. Further
/// requests wait.
const MAX_OUTGOING_REQUESTS: usize = 128;

/// Outgoing HTTP of one component. Clones are cheap.
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
        if Breakage::UnrestrictedEgress.is_on() || Breakage::DeniesAllowedEgress.is_on() {
            return Breakage::UnrestrictedEgress.is_on();
        }
        let scheme = uri.scheme_str().unwrap_or("https");
        let default_port = if scheme == "http" { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        uri.host()
            .is_some_and(|host| self.egress.allows_http(scheme, host, port))
    }
}

type SendResult = Result<(http::Response<WasiBody>, Transfer), HttpError>;
type Transfer = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for OutgoingHttp {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _transfer: Transfer,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        if !self.allows(request.uri()) {
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        }
        let (options, permits) = (with_timeouts(options), self.permits.clone());
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

fn with_timeouts(options: Option<RequestOptions>) -> RequestOptions {
    let mut options = options.unwrap_or_default();
    for timeout in [
        &mut options.connect_timeout,
        &mut options.first_byte_timeout,
        &mut options.between_bytes_timeout,
    ] {
        *timeout = Some(
            timeout
                .unwrap_or(MAX_OUTGOING_TIMEOUT)
                .min(MAX_OUTGOING_TIMEOUT),
        );
    }
    options
}

/// The names that one instance resolved, by address, so that a socket to an address can be checked
/// by name.
#[derive(Clone, Default)]
pub struct ResolvedNames(Arc<Mutex<Lookups>>);

#[derive(Default)]
struct Lookups {
    name_by_address: HashMap<IpAddr, String>,
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
        if lookups.name_by_address.len() >= MAX_RESOLVED_NAMES {
            lookups.name_by_address.clear();
        }
        lookups.name_by_address.insert(address, name);
    }

    /// Forgets the stream of a finished lookup.
    pub fn end(&self, stream: u32) {
        self.lock().name_by_stream.remove(&stream);
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        self.lock().name_by_address.get(&address).cloned()
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
        let name = resolved_names.name_of(address.ip());
        let allowed = egress.allows_socket(protocol, address, name.as_deref());
        Box::pin(std::future::ready(allowed))
    }
}
