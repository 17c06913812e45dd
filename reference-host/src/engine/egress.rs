//! Enforces the allow-lists when a guest sends HTTP requests or uses sockets. Both are judged
//! twice: the name before it is resolved, and each address before a connection to it.

mod connect;
mod resolved_names;
mod response_body;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use berth_sdk::address::{HostAddress, parse_port};
use http::uri::Scheme;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

pub use self::resolved_names::{ResolvedNames, socket_check};
use self::response_body::ResponseBody;
use crate::egress::{Egress, requested_host};
use crate::fault_injection::Breakage;

/// Default of the timeouts of a guest's outgoing request: connecting (name lookup and TLS handshake
/// included), the first byte, and each further part of the response.
const DEFAULT_OUTGOING_TIMEOUT: Duration = Duration::from_secs(60);

/// Upper limit of these timeouts: the longest run of a handler. Without it, a guest could keep its
/// connections forever.
const MAX_OUTGOING_TIMEOUT: Duration = Duration::from_secs(600);

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
        let destination = Destination::of(request.uri());
        let destination = destination.and_then(|it| it.allowed_by_name(&self.egress));
        let destination = match destination {
            Ok(destination) => destination,
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        let (egress, permits) = (self.egress.clone(), self.permits.clone());
        let timeouts = Timeouts::from(options.unwrap_or_default());
        Box::new(async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| HttpError::ConfigurationError)?;
            let deadline = Instant::now() + timeouts.connect;
            let connection = timeout_at(deadline, destination.connect(&egress))
                .await
                .map_err(|_| HttpError::ConnectionTimeout)??;
            let (response, transfer) = send(request, connection, &timeouts).await?;
            let transfer = async move {
                let _permit = permit;
                Box::into_pin(transfer).await
            };
            Ok((response, Box::new(transfer) as Transfer))
        })
    }
}

struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl From<RequestOptions> for Timeouts {
    fn from(options: RequestOptions) -> Self {
        let bounded = |timeout: Option<Duration>| {
            timeout
                .unwrap_or(DEFAULT_OUTGOING_TIMEOUT)
                .min(MAX_OUTGOING_TIMEOUT)
        };
        Self {
            connect: bounded(options.connect_timeout),
            first_byte: bounded(options.first_byte_timeout),
            between_bytes: bounded(options.between_bytes_timeout),
        }
    }
}

/// The destination of a request.
struct Destination {
    scheme: &'static str,
    /// Host as the guest wrote it, for the name lookup.
    host_text: String,
    host: HostAddress,
    port: u16,
}

impl Destination {
    /// Reads the destination from a URI. A user, a zone, or a port that is not a number makes the
    /// URI invalid: different programs would find different hosts in it.
    fn of(uri: &http::Uri) -> Result<Self, HttpError> {
        let authority = uri.authority().ok_or(HttpError::HttpRequestUriInvalid)?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => "http",
            Some(scheme) if *scheme == Scheme::HTTPS => "https",
            None => "https",
            Some(_) => return Err(HttpError::HttpProtocolError),
        };
        if authority.as_str().contains('@') {
            return Err(HttpError::HttpRequestUriInvalid);
        }
        let host_text = authority.host();
        let host = requested_host(host_text).ok_or(HttpError::HttpRequestUriInvalid)?;
        let port = match authority.as_str().strip_prefix(host_text) {
            Some("" | ":") if scheme == "http" => 80,
            Some("" | ":") => 443,
            Some(port) => parse_port(port.trim_start_matches(':'))
                .map_err(|_| HttpError::HttpRequestUriInvalid)?,
            None => return Err(HttpError::HttpRequestUriInvalid),
        };
        Ok(Self {
            scheme,
            host_text: host_text.to_owned(),
            host,
            port,
        })
    }

    fn allowed_by_name(self, egress: &Egress) -> Result<Self, HttpError> {
        let allowed = match () {
            () if Breakage::UnrestrictedEgress.is_on() => true,
            () if Breakage::DeniesAllowedEgress.is_on() => false,
            () => egress.allows_http(self.scheme, &self.host, self.port),
        };
        if allowed {
            Ok(self)
        } else {
            Err(HttpError::HttpRequestDenied)
        }
    }

    /// Resolves the host, and connects to an address that the allow-list covers.
    async fn connect(&self, egress: &Egress) -> Result<Box<dyn Connection>, HttpError> {
        let resolved: Vec<SocketAddr> = match self.host.ip() {
            Some(address) => vec![SocketAddr::from((address, self.port))],
            None => tokio::net::lookup_host((self.host_text.as_str(), self.port))
                .await
                .map_err(HttpError::Connect)?
                .collect(),
        };
        let allowed = |address: &SocketAddr| {
            Breakage::UnrestrictedEgress.is_on()
                || egress.allows_http_address(self.scheme, &self.host, self.port, address.ip())
        };
        let found_none = resolved.is_empty();
        let addresses: Vec<SocketAddr> = resolved.into_iter().filter(allowed).collect();
        if addresses.is_empty() && !found_none {
            return Err(HttpError::HttpRequestDenied);
        }
        let stream = connect::connect(addresses)
            .await
            .map_err(HttpError::Connect)?;
        if self.scheme == "http" {
            return Ok(Box::new(stream));
        }
        let name = match &self.host {
            HostAddress::Ip(address) => ServerName::from(*address),
            HostAddress::Name(name) => ServerName::try_from(name.clone())?,
        };
        let stream = TLS
            .clone()
            .ok_or(HttpError::ConfigurationError)?
            .connect(name, stream)
            .await
            .map_err(HttpError::Tls)?;
        Ok(Box::new(stream))
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// TLS of all guests, with the public certificate authorities. `None` cannot occur with the
/// provider in use, which has all default versions.
static TLS: LazyLock<Option<TlsConnector>> = LazyLock::new(|| {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.into(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
});

/// Sends the request over a new connection. The returned future drives the connection while the
/// body of the response is read.
async fn send(
    mut request: http::Request<WasiBody>,
    connection: Box<dyn Connection>,
    timeouts: &Timeouts,
) -> SendResult {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
    // A request to an origin server has only the path in its first line.
    let target = request.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    *request.uri_mut() = target
        .parse()
        .map_err(|_| HttpError::HttpRequestUriInvalid)?;
    let mut connection = Box::pin(connection);
    let mut connection_ended = false;
    let response = {
        let mut response =
            std::pin::pin!(timeout(timeouts.first_byte, sender.send_request(request)));
        let early = tokio::select! {
            biased;
            response = &mut response => Some(response),
            ended = &mut connection => {
                ended?;
                connection_ended = true;
                None
            }
        };
        match early {
            Some(response) => response,
            None => response.await,
        }
    };
    let response = response.map_err(|_| HttpError::ConnectionReadTimeout)??;
    let between_bytes = timeouts.between_bytes;
    let response =
        response.map(|incoming| ResponseBody::new(incoming, between_bytes).boxed_unsync());
    let transfer = async move {
        if connection_ended {
            return Ok(());
        }
        Ok(connection.await?)
    };
    Ok((response, Box::new(transfer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(uri: &str) -> Result<String, HttpError> {
        let destination = Destination::of(&uri.parse().unwrap())?;
        let Destination {
            scheme, host, port, ..
        } = destination;
        Ok(format!("{scheme} {host} {port}"))
    }

    #[test]
    fn destination_is_what_rfc_3986_says() {
        for (uri, expected) in [
            ("http://a.example/x", "http a.example 80"),
            ("https://A.example:8443/", "https a.example 8443"),
            ("https://a.example.:/", "https a.example 443"),
            ("http://[2001:DB8:0::1]:8080/", "http [2001:db8::1] 8080"),
            ("http://[::ffff:127.0.0.1]/", "http 127.0.0.1 80"),
            ("http://_a.example/", "http _a.example 80"),
        ] {
            assert_eq!(destination(uri).unwrap(), expected, "{uri}");
        }
        for uri in [
            "http://good.test:80@evil.test/",
            "http://user@evil.test/",
            "http://a.example:99999/",
            "http://[fe80::1%25eth0]/",
        ] {
            let Ok(uri) = uri.parse() else { continue };
            let result = Destination::of(&uri).map(|it| it.host);
            assert!(
                matches!(result, Err(HttpError::HttpRequestUriInvalid)),
                "{uri}"
            );
        }
    }

    #[test]
    fn timeouts_are_those_of_the_guest_within_bounds() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let timeouts = Timeouts::from(RequestOptions {
            connect_timeout: None,
            first_byte_timeout: seconds(120),
            between_bytes_timeout: seconds(10_000),
        });
        let all = [
            timeouts.connect,
            timeouts.first_byte,
            timeouts.between_bytes,
        ];
        assert_eq!(all.map(|it| it.as_secs()), [60, 120, 600]);
    }

    fn egress(hosts: &[&str]) -> Arc<Egress> {
        let resources = berth_proto::LocalResources {
            allowed_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ..Default::default()
        };
        Arc::new(Egress::parse(&resources).unwrap())
    }

    /// Sends a GET request and returns the status of the response.
    async fn get(hosts: &[&str], url: &str, connect: Duration) -> Result<u16, HttpError> {
        let empty = http_body_util::Empty::new().map_err(|never| match never {});
        let request = http::Request::get(url).body(empty.boxed_unsync()).unwrap();
        let options = RequestOptions {
            connect_timeout: Some(connect),
            first_byte_timeout: None,
            between_bytes_timeout: None,
        };
        let transfer = Box::new(std::future::ready(Ok(())));
        let response =
            OutgoingHttp::new(egress(hosts)).send_request(request, Some(options), transfer);
        let (response, _transfer) = Box::into_pin(response).await?;
        Ok(response.status().as_u16())
    }

    #[tokio::test]
    async fn loopback_needs_localhost_or_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(stream.read(&mut [0; 1024]).await);
                let response = b"HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(response).await.unwrap();
            }
        });
        let number = "2130706433";
        for (entries, host, allowed) in [
            (&["localhost"][..], "localhost", true),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "[::ffff:127.0.0.1]", true),
            (&["*", "127.0.0.1"], "localhost", true),
            (&["*"], "localhost", false),
            (&["*"], "127.0.0.1", false),
            (&["*"], number, false),
            (&[number], number, false),
            (&["good.test"], "good.test:80@localhost", false),
        ] {
            let url = format!("http://{host}:{port}/");
            let result = get(entries, &url, DEFAULT_OUTGOING_TIMEOUT).await;
            let as_expected = match result {
                Ok(status) => allowed && status == 204,
                Err(HttpError::HttpRequestDenied | HttpError::HttpRequestUriInvalid) => !allowed,
                Err(_) => false,
            };
            assert!(as_expected, "{entries:?} {host}: {result:?}");
        }
    }

    #[tokio::test]
    async fn tls_handshake_ends_at_the_connect_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = tokio::spawn(async move { listener.accept().await.unwrap() });
        let url = format!("https://127.0.0.1:{port}/");
        let result = get(&["127.0.0.1"], &url, Duration::from_millis(300)).await;
        assert!(
            matches!(result, Err(HttpError::ConnectionTimeout)),
            "{result:?}"
        );
        drop(silent);
    }
}
