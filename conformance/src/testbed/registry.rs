//! An in-process OCI registry that serves the images of the checks and can misbehave.

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

pub use self::artifact::{Artifact, PushedImage, WASM_LAYER, digest};
pub use self::behavior::{Credentials, CutEnd, RepositoryBehavior, RequiredAuth};
pub use self::body::ENDLESS_BYTES;
pub use self::request_log::{Authorization, Endpoint, LoggedRequest};

use self::artifact::Image;
use self::handler::{Handler, ListenerKind};
use self::repositories::Repositories;
use super::tcp_server::TcpServer;

/// A registry on a loopback port, with the pull side of the OCI distribution protocol.
///
/// Each repository has its own behavior, so checks with separate repositories do not affect each
/// other. Every request is logged. Dropping the registry closes its ports.
#[derive(Debug)]
pub struct Registry {
    authority: String,
    address: SocketAddr,
    repositories: Arc<Repositories>,
    handler: Arc<Handler>,
    /// `None` while offline.
    server: Mutex<Option<TcpServer>>,
    _redirect_server: TcpServer,
    _reserved: [TcpSocket; 2],
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Registry {
    /// Starts a registry without authentication.
    pub async fn start() -> io::Result<Registry> {
        Registry::open(loopback(), RequiredAuth::None)
    }

    /// Starts a registry without authentication on an address; port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound.
    pub fn start_at(address: SocketAddr) -> io::Result<Registry> {
        Registry::open(address, RequiredAuth::None)
    }

    /// Starts a registry that requires authentication for every request, including `/v2/`.
    pub async fn start_private(auth: RequiredAuth) -> io::Result<Registry> {
        Registry::open(loopback(), auth)
    }

    fn open(address: SocketAddr, auth: RequiredAuth) -> io::Result<Registry> {
        let (main, redirect) = (listener::reserve(address)?, listener::reserve(loopback())?);
        let (address, redirect_address) = (main.local_addr()?, redirect.local_addr()?);
        let repositories = Arc::new(Repositories::default());
        let token_seed = format!("{:032x}", rand::random::<u128>());
        let handler = |listener| {
            Arc::new(Handler {
                listener,
                repositories: repositories.clone(),
                auth: auth.clone(),
                authority: address.to_string(),
                redirect_authority: redirect_address.to_string(),
                token_seed: token_seed.clone(),
            })
        };
        let main_handler = handler(ListenerKind::Main);
        let redirect_handler = handler(ListenerKind::RedirectTarget);
        Ok(Registry {
            authority: address.to_string(),
            address,
            server: Mutex::new(Some(listener::listen(address, main_handler.clone())?)),
            handler: main_handler,
            _redirect_server: listener::listen(redirect_address, redirect_handler)?,
            _reserved: [main, redirect],
            repositories,
        })
    }

    /// Returns `127.0.0.1:PORT`, which does not change.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Pushes an image to a repository under a tag; an existing tag is moved.
    pub fn push(&self, repository: &str, tag: &str, artifact: Artifact) -> PushedImage {
        let image = Image::of(artifact);
        let digest = image.manifest.digest.clone();
        let layer_digest = image.layer.digest.clone();
        self.repositories.put(repository, tag, image);
        PushedImage {
            reference: self.reference(repository, tag),
            digest_reference: format!("{}/{repository}@{digest}", self.authority),
            digest,
            layer_digest,
        }
    }

    /// Moves a tag to a manifest. Returns false if the repository has no manifest with this digest.
    pub fn move_tag(&self, repository: &str, tag: &str, digest: &str) -> bool {
        self.repositories.move_tag(repository, tag, digest)
    }

    /// Returns `AUTHORITY/REPOSITORY:TAG`, whether or not the image exists.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.authority)
    }

    /// Sets the behavior of a repository for all requests from now on.
    pub fn set_behavior(&self, repository: &str, behavior: RepositoryBehavior) {
        self.repositories.set_behavior(repository, behavior);
    }

    /// Returns all requests for a repository, oldest first; those for `/v2/` have the repository
    /// `""`.
    pub fn log(&self, repository: &str) -> Vec<LoggedRequest> {
        self.repositories.log(repository)
    }

    /// Returns all requests that arrived at the target of redirects from a repository, oldest
    /// first.
    pub fn redirect_target_log(&self, repository: &str) -> Vec<LoggedRequest> {
        self.repositories.redirect_target_log(repository)
    }

    /// Returns the number of bytes in all bodies that were sent from a repository so far.
    pub fn sent_bytes(&self, repository: &str) -> u64 {
        self.repositories.sent_bytes(repository)
    }

    /// Returns the number of all requests, including those for `/v2/`.
    pub fn request_count(&self) -> usize {
        self.repositories.request_count()
    }

    /// Waits until the log of a repository satisfies a condition. Returns the log; on a timeout,
    /// the log is the error.
    ///
    /// Cancel safe.
    pub async fn wait(
        &self,
        repository: &str,
        limit: Duration,
        condition: impl Fn(&[LoggedRequest]) -> bool,
    ) -> Result<Vec<LoggedRequest>, Vec<LoggedRequest>> {
        let satisfied = async {
            loop {
                let arrival = self.repositories.arrival.notified();
                tokio::pin!(arrival);
                // Registered before the log is read, so that no request is missed.
                arrival.as_mut().enable();
                let log = self.log(repository);
                if condition(&log) {
                    return log;
                }
                arrival.await;
            }
        };
        tokio::time::timeout(limit, satisfied)
            .await
            .map_err(|_| self.log(repository))
    }

    /// Closes the port: all connections are closed and new ones refused. The content remains.
    pub fn go_offline(&self) {
        self.server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Opens the same port again. Has no effect if the registry is online.
    pub fn go_online(&self) -> io::Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(listener::listen(self.address, self.handler.clone())?);
        }
        Ok(())
    }
}
