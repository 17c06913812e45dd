//! A broker and a registry with the suite's images, for manual experiments.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use berth_broker::{Broker, BrokerError, BrokerOptions};

use super::guest;
use super::guest::GuestError;
use super::registry::{Artifact, Registry};
use crate::spec::roles::Role;

/// Tag of every image.
const TAG: &str = "1";

/// An embedded broker, and a registry with the suite's image for every role as `ROLE:1`. Both stop
/// when it is dropped.
#[derive(Debug)]
pub struct Playground {
    broker: Broker,
    registry: Registry,
}

/// Reasons why a playground cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    /// The broker cannot listen.
    #[error("the broker cannot listen on {addr}; select another address with --nats-addr")]
    Broker {
        /// Address of the broker.
        addr: SocketAddr,
        /// Error of the broker.
        #[source]
        source: BrokerError,
    },
    /// The registry cannot listen.
    #[error("the registry cannot listen on {addr}; select another address with --registry-addr")]
    Registry {
        /// Address of the registry.
        addr: SocketAddr,
        /// I/O error.
        #[source]
        source: io::Error,
    },
    /// An image cannot be built.
    #[error("cannot build the images")]
    Guest(#[from] GuestError),
}

impl Playground {
    /// Starts the broker and the registry on the given addresses; port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// Fails if an address cannot be bound or an image cannot be built.
    pub async fn start(nats: SocketAddr, registry: SocketAddr) -> Result<Self, PlaygroundError> {
        let options = BrokerOptions {
            addr: nats,
            ..BrokerOptions::default()
        };
        let broker = Broker::start(options)
            .await
            .map_err(|source| PlaygroundError::Broker { addr: nats, source })?;
        let addr = registry;
        let registry = Registry::start_at(addr)
            .map_err(|source| PlaygroundError::Registry { addr, source })?;
        for role in Role::ALL {
            registry.push(role.name(), TAG, Artifact::wasm(guest::image(*role)?));
        }
        Ok(Self { broker, registry })
    }

    /// Returns the addresses, the images and example commands as text.
    pub fn describe(&self) -> String {
        let (url, authority) = (self.broker.url(), self.registry.authority());
        let hello = self.registry.reference(Role::Hello.name(), TAG);
        let mut text = format!("broker    {url}\nregistry  {authority} (plain HTTP)\nimages   ");
        for role in Role::ALL {
            // A write to a string cannot fail.
            let _ = write!(text, " {}:{TAG}", role.name());
        }
        let _ = write!(
            text,
            "\n\n  berth-host --nats-url {url} --http-addr 127.0.0.1:8000 \
             --insecure-registry {authority}\n  \
             berthctl --nats-url {url} start --image {hello} \
             --http-host hello.localhost --id hello-1\n  \
             curl -H 'Host: hello.localhost' http://127.0.0.1:8000/\n\nPress Ctrl-C to stop.\n"
        );
        text
    }
}
