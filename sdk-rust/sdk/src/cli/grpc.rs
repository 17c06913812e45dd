//! The flags that say how gRPC is served and reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::grpc::{ChannelOptions, ClientTls, ServerTls};

/// Who we are and whom we trust when we call by gRPC.
#[derive(Args, Clone)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcTlsArgs {
    /// PEM file of the authorities to trust behind https:// instead of the system's
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CA", global = true)]
    grpc_tls_ca: Option<PathBuf>,

    /// PEM file of our certificate, shown to those we call and those who call us
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CERT", global = true)]
    grpc_tls_cert: Option<PathBuf>,

    /// PEM file of the key to our certificate
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_KEY", global = true)]
    grpc_tls_key: Option<PathBuf>,
}

impl GrpcTlsArgs {
    /// For calls to `https://`.
    pub fn client(&self) -> ClientTls {
        ClientTls {
            ca_file: self.grpc_tls_ca.clone(),
            cert_file: self.grpc_tls_cert.clone(),
            key_file: self.grpc_tls_key.clone(),
            server_name: None,
        }
    }

    /// The way to this URL. Files are for `https://`; what has none needs none.
    pub fn channel(&self, url: &str) -> ChannelOptions {
        channel(url, self.client())
    }
}

/// Where gRPC is served.
#[derive(Args, Clone)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcServeArgs {
    /// Serve gRPC here, like 127.0.0.1:9090; port 0 takes any [default: no gRPC]
    #[arg(long, value_name = "IP:PORT", env = "BERTH_GRPC_ADDR")]
    grpc_addr: Option<SocketAddr>,

    /// PEM file of the authorities whose clients may call us [default: everybody may]
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CLIENT_CA")]
    grpc_tls_client_ca: Option<PathBuf>,

    /// Do without NATS: gRPC only
    #[arg(long, requires = "grpc_addr")]
    no_nats: bool,

    #[command(flatten)]
    tls: GrpcTlsArgs,
}

/// What the flags come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcServe {
    /// Where gRPC is served; `None`: nowhere.
    pub addr: Option<SocketAddr>,
    /// With which certificate; `None`: without TLS.
    pub tls: Option<ServerTls>,
    /// How we call others.
    pub client: ClientTls,
    /// NATS is not used at all.
    pub no_nats: bool,
}

impl GrpcServe {
    /// The way to this URL. Files are for `https://`; what has none needs none.
    pub fn channel(&self, url: &str) -> ChannelOptions {
        channel(url, self.client.clone())
    }
}

impl GrpcServeArgs {
    /// The settings.
    ///
    /// # Errors
    ///
    /// What contradicts what, for whoever wrote the flags or set their variables.
    pub fn into_settings(self) -> Result<GrpcServe, String> {
        let tls = match (&self.tls.grpc_tls_cert, &self.tls.grpc_tls_key) {
            (Some(cert_file), Some(key_file)) => Some(ServerTls {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
                client_ca_file: self.grpc_tls_client_ca,
            }),
            (None, None) if self.grpc_tls_client_ca.is_some() => {
                return Err(
                    "--grpc-tls-client-ca asks callers for certificates and needs --grpc-tls-cert \
                     and --grpc-tls-key"
                        .to_owned(),
                );
            }
            (None, None) => None,
            _ => return Err("--grpc-tls-cert and --grpc-tls-key go together".to_owned()),
        };
        Ok(GrpcServe {
            addr: self.grpc_addr,
            tls,
            client: self.tls.client(),
            no_nats: self.no_nats,
        })
    }
}

fn channel(url: &str, tls: ClientTls) -> ChannelOptions {
    let mut options = ChannelOptions::to(url);
    if url.starts_with("https:") {
        options.tls = tls;
    }
    options
}
