//! An OCI registry in the process, which serves the images of the checks and can misbehave.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpSocket;

mod artifact;
mod behavior;
mod body;
mod handler;
mod listener;
mod repositories;
mod request_log;
mod response;

pub use self::artifact::{Artifact, Pushed, WASM_LAYER, digest};
pub use self::behavior::{Behaviour, Credentials, Demand};
pub use self::request_log::{Authorization, PendingRequest, Request};

use self::artifact::Image;
use self::handler::{Answerer, Side};
use self::listener::Door;
use self::repositories::Shelf;

/// A registry on a loopback port of its own, speaking the pull side of the OCI distribution protocol.
///
/// Each repository behaves for itself, so checks that keep to their own repositories do not
/// disturb each other. Everything asked is recorded. Dropping it closes its ports.
#[derive(Debug)]
pub struct Registry {
    authority: String,
    address: SocketAddr,
    shelf: Arc<Shelf>,
    front: Arc<Answerer>,
    door: Mutex<Option<Door>>,
    _elsewhere: Door,
    _reserved: [TcpSocket; 2],
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Registry {
    /// A registry from which everyone may pull.
    pub async fn start() -> io::Result<Registry> {
        Registry::open(loopback(), Demand::Nothing)
    }

    /// A registry from which everyone may pull, on an address of one's choice; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// The address is taken, or may not be listened on.
    pub fn start_at(address: SocketAddr) -> io::Result<Registry> {
        Registry::open(address, Demand::Nothing)
    }

    /// A registry that asks everyone for credentials, `/v2/` included.
    pub async fn start_private(demand: Demand) -> io::Result<Registry> {
        Registry::open(loopback(), demand)
    }

    fn open(address: SocketAddr, demand: Demand) -> io::Result<Registry> {
        let (front, back) = (listener::reserve(address)?, listener::reserve(loopback())?);
        let (address, elsewhere) = (front.local_addr()?, back.local_addr()?);
        let shelf = Arc::new(Shelf::default());
        let token_seed = format!("{:032x}", rand::random::<u128>());
        let answerer = |side| {
            Arc::new(Answerer {
                side,
                shelf: shelf.clone(),
                demand: demand.clone(),
                authority: address.to_string(),
                elsewhere: elsewhere.to_string(),
                token_seed: token_seed.clone(),
            })
        };
        let front_answerer = answerer(Side::Front);
        Ok(Registry {
            authority: address.to_string(),
            address,
            door: Mutex::new(Some(Door::open(address, front_answerer.clone())?)),
            front: front_answerer,
            _elsewhere: Door::open(elsewhere, answerer(Side::Elsewhere))?,
            _reserved: [front, back],
            shelf,
        })
    }

    /// `127.0.0.1:PORT`, constant for the registry's life.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Puts an image into a repository under a tag; a tag that exists is moved.
    pub fn push(&self, repository: &str, tag: &str, artifact: Artifact) -> Pushed {
        let image = Image::of(artifact);
        let digest = image.manifest.digest.clone();
        let layer_digest = image.layer.digest.clone();
        self.shelf.put(repository, tag, image);
        Pushed {
            reference: self.reference(repository, tag),
            digest_reference: format!("{}/{repository}@{digest}", self.authority),
            digest,
            layer_digest,
        }
    }

    /// Moves a tag to a manifest that the repository has; false, and nothing moved, if it has none such.
    pub fn move_tag(&self, repository: &str, tag: &str, digest: &str) -> bool {
        self.shelf.tag(repository, tag, digest)
    }

    /// `AUTHORITY/REPOSITORY:TAG`, pushed or not.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.authority)
    }

    /// How a repository answers from the next request on.
    pub fn behave(&self, repository: &str, behaviour: Behaviour) {
        self.shelf.behave(repository, behaviour);
    }

    /// Every request that concerned a repository, oldest first; `""` for the pings of `/v2/`.
    pub fn log(&self, repository: &str) -> Vec<Request> {
        self.shelf.log(repository)
    }

    /// Every request for a redirected layer of a repository, oldest first.
    pub fn elsewhere_log(&self, repository: &str) -> Vec<Request> {
        self.shelf.elsewhere_log(repository)
    }

    /// Waits until the repository's log is as wanted; the log then, or at the deadline as the error.
    ///
    /// Cancel safe.
    pub async fn wait(
        &self,
        repository: &str,
        deadline: Duration,
        wanted: impl Fn(&[Request]) -> bool,
    ) -> Result<Vec<Request>, Vec<Request>> {
        let seen = async {
            loop {
                let arrival = self.shelf.arrival.notified();
                tokio::pin!(arrival);
                // Registered before the look, so that no request falls in between.
                arrival.as_mut().enable();
                let log = self.log(repository);
                if wanted(&log) {
                    return log;
                }
                arrival.await;
            }
        };
        tokio::time::timeout(deadline, seen)
            .await
            .map_err(|_| self.log(repository))
    }

    /// Closes the port: connections are cut and new ones refused. The content stays.
    pub fn disappear(&self) {
        self.door
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Opens the same port again. Without effect on a registry that is there.
    pub fn reappear(&self) -> io::Result<()> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_none() {
            *door = Some(Door::open(self.address, self.front.clone())?);
        }
        Ok(())
    }
}
