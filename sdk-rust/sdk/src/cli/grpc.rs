//! Flags for serving and calling gRPC.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::grpc::{ChannelOptions, ClientTls, ServerTls};

/// TLS flags for gRPC calls.
#[derive(Args, Clone)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcTlsArgs {
    /// CA certificates (PEM) for https:// URLs [default: system roots]
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CA", global = true)]
    grpc_tls_ca: Option<PathBuf>,

    /// Certificate (PEM) to present to gRPC servers and clients
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CERT", global = true)]
    grpc_tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_KEY", global = true)]
    grpc_tls_key: Option<PathBuf>,
}

impl GrpcTlsArgs {
    /// Returns the TLS settings for calls to `https://`.
    pub fn client_tls(&self) -> ClientTls {
        ClientTls {
            ca_file: self.grpc_tls_ca.clone(),
            cert_file: self.grpc_tls_cert.clone(),
            key_file: self.grpc_tls_key.clone(),
            server_name: None,
        }
    }

    /// Returns the options of a channel to this URL. TLS applies only to `https://`.
    pub fn channel_options(&self, url: &str) -> ChannelOptions {
        channel_options(url, self.client_tls())
    }
}

/// Flags for serving gRPC.
#[derive(Args, Clone)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcServeArgs {
    /// gRPC listen address, such as 127.0.0.1:9090; port 0 picks a free port [default: no gRPC]
    #[arg(long, value_name = "IP:PORT", env = "BERTH_GRPC_ADDR")]
    grpc_addr: Option<SocketAddr>,

    /// CA certificates (PEM) of permitted clients [default: all clients permitted]
    #[arg(long, value_name = "FILE", env = "BERTH_GRPC_TLS_CLIENT_CA")]
    grpc_tls_client_ca: Option<PathBuf>,

    /// Allow clients without certificates on a --grpc-addr that other machines can reach
    #[arg(long, requires = "grpc_addr")]
    grpc_insecure: bool,

    /// Use gRPC only, without NATS
    #[arg(long, requires = "grpc_addr")]
    no_nats: bool,

    #[command(flatten)]
    tls: GrpcTlsArgs,
}

/// gRPC settings, as given by the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcSettings {
    /// Listen address; `None` disables the gRPC server.
    pub addr: Option<SocketAddr>,
    /// TLS of the server; `None` serves plaintext.
    pub tls: Option<ServerTls>,
    /// TLS of calls to other servers.
    pub client_tls: ClientTls,
    /// Whether NATS is disabled.
    pub no_nats: bool,
}

impl GrpcSettings {
    /// Returns the options of a channel to this URL. TLS applies only to `https://`.
    pub fn channel_options(&self, url: &str) -> ChannelOptions {
        channel_options(url, self.client_tls.clone())
    }
}

impl GrpcServeArgs {
    /// Returns the settings.
    ///
    /// # Errors
    ///
    /// Returns a message about the conflict if flags or variables contradict each other.
    pub fn into_settings(self) -> Result<GrpcSettings, String> {
        let tls = match (&self.tls.grpc_tls_cert, &self.tls.grpc_tls_key) {
            (Some(cert_file), Some(key_file)) => Some(ServerTls {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
                client_ca_file: self.grpc_tls_client_ca,
            }),
            (None, None) if self.grpc_tls_client_ca.is_some() => {
                return Err(
                    "--grpc-tls-client-ca requires --grpc-tls-cert and --grpc-tls-key".to_owned(),
                );
            }
            (None, None) => None,
            _ => return Err("--grpc-tls-cert and --grpc-tls-key require each other".to_owned()),
        };
        let authenticates_clients = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        if let Some(addr) = self.grpc_addr
            && !(addr.ip().is_loopback() || authenticates_clients || self.grpc_insecure)
        {
            return Err(format!(
                "other machines can reach --grpc-addr {addr}, and every client may send commands: \
                 require client certificates with --grpc-tls-cert, --grpc-tls-key and \
                 --grpc-tls-client-ca, or pass --grpc-insecure if the network keeps others away"
            ));
        }
        Ok(GrpcSettings {
            addr: self.grpc_addr,
            tls,
            client_tls: self.tls.client_tls(),
            no_nats: self.no_nats,
        })
    }
}

fn channel_options(url: &str, tls: ClientTls) -> ChannelOptions {
    let mut options = ChannelOptions::to(url);
    if url.starts_with("https:") {
        options.tls = tls;
    }
    options
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        grpc: GrpcServeArgs,
    }

    fn settings(flags: &str) -> Result<GrpcSettings, String> {
        let words = std::iter::once("program").chain(flags.split_whitespace());
        Program::try_parse_from(words)
            .expect("valid flags")
            .grpc
            .into_settings()
    }

    #[test]
    fn address_of_other_machines_needs_client_certificates() {
        let tls = "--grpc-tls-cert c --grpc-tls-key k";
        for (flags, accepted) in [
            ("", true),
            ("--grpc-addr 127.0.0.1:9090", true),
            ("--grpc-addr [::1]:9090", true),
            ("--grpc-addr 0.0.0.0:9090", false),
            ("--grpc-addr [::]:9090", false),
            ("--grpc-addr 10.0.0.5:9090", false),
            (&format!("--grpc-addr 0.0.0.0:9090 {tls}"), false),
            (
                &format!("--grpc-addr 0.0.0.0:9090 {tls} --grpc-tls-client-ca a"),
                true,
            ),
            ("--grpc-addr 0.0.0.0:9090 --grpc-insecure", true),
        ] {
            let settings = settings(flags);
            assert_eq!(settings.is_ok(), accepted, "{flags}: {settings:?}");
            if let Err(message) = settings {
                assert!(message.contains("--grpc-tls-client-ca"), "{message}");
                assert!(message.contains("--grpc-insecure"), "{message}");
            }
        }
    }
}
