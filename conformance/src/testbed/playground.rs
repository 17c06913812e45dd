//! A broker and a registry to try things by hand: what a run of the suite has, without a judge.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use berth_broker::{Broker, BrokerError, BrokerOptions};

use super::guest;
use super::guest::GuestError;
use super::registry::{Artifact, Registry};
use crate::spec::roles::Role;

/// The tag under which each image is found.
const TAG: &str = "1";

/// An embedded broker, and a registry with the suite's image for every role as `ROLE:1`.
/// Dropping it ends both.
#[derive(Debug)]
pub struct Playground {
    broker: Broker,
    registry: Registry,
}

/// Why there is no playground.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    /// The broker does not start.
    #[error("the broker cannot listen on {addr}; choose another address with --nats-addr")]
    Broker {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: BrokerError,
    },
    /// The registry does not start.
    #[error("the registry cannot listen on {addr}; choose another address with --registry-addr")]
    Registry {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image cannot be made.
    #[error("the images cannot be made")]
    Guest(#[from] GuestError),
}

impl Playground {
    /// Starts both, on these addresses; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// An address is taken, or may not be listened on.
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

    /// What is there and how to use it, as lines of text.
    pub fn describe(&self) -> String {
        let (url, authority) = (self.broker.url(), self.registry.authority());
        let hello = self.registry.reference(Role::Hello.name(), TAG);
        let mut text = format!("broker    {url}\nregistry  {authority} (plain HTTP)\nimages   ");
        for role in Role::ALL {
            // Writing to a string does not fail.
            let _ = write!(text, " {}:{TAG}", role.name());
        }
        let _ = write!(
            text,
            "\n\n  berth-host --nats-url {url} --http-addr 127.0.0.1:8000 --insecure-registry {authority}\n  \
             berthctl --nats-url {url} start --image {hello} --http-host hello.localhost --id hello-1\n  \
             curl -H 'Host: hello.localhost' http://127.0.0.1:8000/\n\nCtrl-C ends it.\n"
        );
        text
    }
}
