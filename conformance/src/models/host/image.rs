//! How the model host pulls an image: references, policies, credentials, digests, bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::mutant::Mutant;
use super::script::MEDIA_TYPE;

/// A whole pull, every request of it.
const PULL_TIMEOUT: Duration = Duration::from_secs(12);
/// The largest manifest or layer that is taken.
const IMAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A fault may wait "for ever", but no test waits longer than this.
const FOREVER: Duration = Duration::from_secs(600);

/// When the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At each start.
    Always,
    /// When the image is not there.
    IfNotPresent,
    /// Never.
    Never,
}

impl Policy {
    /// The policy of that enum name; what is not set means IF_NOT_PRESENT.
    #[must_use]
    pub fn of(name: Option<&str>) -> Policy {
        match name {
            Some("IMAGE_PULL_POLICY_ALWAYS") => Policy::Always,
            Some("IMAGE_PULL_POLICY_NEVER") => Policy::Never,
            _ => Policy::IfNotPresent,
        }
    }
}

/// A program that does nothing, for faults that run what is not there.
const NOTHING: Bytes = Bytes::from_static(b"{}");

/// Why a registry did not give an image.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Unauthorised(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Other(String),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Failure::Other(words)
    }
}

impl From<&str> for Failure {
    fn from(words: &str) -> Self {
        Failure::Other(words.to_owned())
    }
}

/// A user and a password for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

/// What the model host has pulled, and how it pulls more.
#[derive(Debug)]
pub struct Images {
    mutant: Option<Mutant>,
    cache: Mutex<HashMap<String, Bytes>>,
    flights: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Images {
    /// An empty cache.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self {
            mutant,
            cache: Mutex::default(),
            flights: Mutex::default(),
        })
    }

    /// The layer of an image. The pull goes on when the future is dropped.
    ///
    /// # Errors
    /// Why the image cannot be had, in words without secrets.
    pub async fn pull(
        self: &Arc<Self>,
        reference: &str,
        policy: Policy,
        credentials: Option<Credentials>,
    ) -> Result<Bytes, String> {
        let policy = self.policy(policy)?;
        let images = Arc::clone(self);
        let reference = reference.to_owned();
        let pull = async move { images.pull_once(&reference, policy, credentials).await };
        tokio::spawn(pull)
            .await
            .unwrap_or_else(|error| Err(format!("the pull broke off: {error}")))
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn policy(&self, policy: Policy) -> Result<Policy, String> {
        match policy {
            Policy::Always if self.is(Mutant::AlwaysUsesCache) => Ok(Policy::IfNotPresent),
            Policy::IfNotPresent if self.is(Mutant::IfNotPresentAsksRegistry) => Ok(Policy::Always),
            Policy::Never if self.is(Mutant::NeverAsksRegistry) => Ok(Policy::IfNotPresent),
            Policy::Never if self.is(Mutant::NeverAlwaysFails) => {
                Err("the pull policy is NEVER".to_owned())
            }
            policy => Ok(policy),
        }
    }

    async fn pull_once(
        &self,
        reference: &str,
        policy: Policy,
        credentials: Option<Credentials>,
    ) -> Result<Bytes, String> {
        let image = match Reference::parse(reference) {
            Err(_) if self.is(Mutant::BadReferenceRuns) => return Ok(NOTHING),
            parsed => parsed?,
        };
        if image.digest && self.is(Mutant::NoDigestReferences) {
            return Err(format!("{reference}: digests are not supported"));
        }
        let flight = Arc::clone(
            self.flights
                .lock()
                .await
                .entry(reference.to_owned())
                .or_default(),
        );
        let _one_at_a_time = flight.lock().await;
        let cached = self.cache.lock().await.get(reference).cloned();
        match (policy, cached) {
            (Policy::IfNotPresent | Policy::Never, Some(bytes)) => return Ok(bytes),
            (Policy::Never, None) => {
                return Err(format!(
                    "{reference} is not here and the pull policy is NEVER"
                ));
            }
            _ => {}
        }
        let credentials = credentials.filter(|_| !self.is(Mutant::IgnoresPullSecret));
        let patience = match self.mutant {
            Some(
                Mutant::UnboundedPull | Mutant::UnboundedImage | Mutant::StartAnswerWaitsForever,
            ) => FOREVER,
            _ => PULL_TIMEOUT,
        };
        let pulled = timeout(patience, self.fetch(&image, credentials.as_ref())).await;
        let bytes = match pulled {
            Err(_) => return Err(format!("{reference}: timed out")),
            Ok(Err(Failure::Missing(_))) if self.is(Mutant::MissingImageRuns) => NOTHING,
            Ok(Err(Failure::Unauthorised(_))) if self.is(Mutant::UnauthorisedRuns) => NOTHING,
            Ok(Err(Failure::Unreachable(_))) if self.is(Mutant::UnreachableRegistryHangs) => {
                tokio::time::sleep(FOREVER).await;
                NOTHING
            }
            Ok(pulled) => pulled.map_err(|failure| format!("{reference}: {failure}"))?,
        };
        self.cache
            .lock()
            .await
            .insert(reference.to_owned(), bytes.clone());
        Ok(bytes)
    }

    async fn fetch(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, Failure> {
        let registry = Session {
            images: self,
            image,
            credentials,
            authorization: Mutex::default(),
        };
        let manifest = registry
            .get(&format!("manifests/{}", image.version))
            .await?;
        if image.digest {
            self.verify(&manifest, &image.version)?;
        }
        let manifest: Value = serde_json::from_slice(&manifest)
            .map_err(|error| format!("the manifest is not JSON: {error}"))?;
        let layer = match manifest
            .get("layers")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            Some([layer]) => layer,
            _ => return Err("the manifest has not exactly one layer".into()),
        };
        let text = |name| layer.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("mediaType") != MEDIA_TYPE && !self.is(Mutant::RunsAnything) {
            return Err(format!("the layer's media type is {}", text("mediaType")).into());
        }
        if layer.get("size").and_then(Value::as_u64).unwrap_or(0) > IMAGE_BYTES_MAX as u64 {
            return Err(format!("the layer is larger than {IMAGE_BYTES_MAX} bytes").into());
        }
        let bytes = registry.get(&format!("blobs/{}", text("digest"))).await?;
        self.verify(&bytes, text("digest"))?;
        Ok(bytes)
    }

    fn verify(&self, bytes: &[u8], digest: &str) -> Result<(), Failure> {
        let actual: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if digest == format!("sha256:{actual}")
            || self.is(Mutant::SkipsDigestCheck)
            || self.is(Mutant::RunsTruncatedImage)
        {
            return Ok(());
        }
        Err(format!("{digest} was asked for, sha256:{actual} arrived").into())
    }
}

/// `AUTHORITY/REPOSITORY:TAG` or `AUTHORITY/REPOSITORY@sha256:HEX`; an authority is always named.
#[derive(Debug)]
struct Reference {
    authority: String,
    repository: String,
    version: String,
    digest: bool,
}

impl Reference {
    fn parse(reference: &str) -> Result<Reference, String> {
        let malformed = || format!("{reference:?} is not an image reference");
        let (authority, path) = reference.split_once('/').ok_or_else(malformed)?;
        let (repository, version, digest) = match path.split_once('@') {
            Some((repository, digest)) => (repository, digest, true),
            None => {
                let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
                (repository, tag, false)
            }
        };
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        let legal = !repository.is_empty()
            && repository.chars().all(lower)
            && !version.is_empty()
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c))
            && authority.contains([':', '.']);
        match legal {
            true => Ok(Reference {
                authority: authority.to_owned(),
                repository: repository.to_owned(),
                version: version.to_owned(),
                digest,
            }),
            false => Err(malformed()),
        }
    }
}

/// The requests of one pull, with what the registry has demanded so far.
struct Session<'a> {
    images: &'a Images,
    image: &'a Reference,
    credentials: Option<&'a Credentials>,
    authorization: Mutex<Option<String>>,
}

impl Session<'_> {
    async fn get(&self, what: &str) -> Result<Bytes, Failure> {
        let path = format!("/v2/{}/{what}", self.image.repository);
        let authority = self.image.authority.as_str();
        let mut authorization = self.authorization.lock().await.clone();
        if self.images.is(Mutant::SendsCredentialsUnasked) {
            authorization = self.credentials.map(basic);
        }
        let mut answer = request(authority, &path, authorization.as_deref()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && authorization.is_none() {
            let demanded = self.answer_challenge(&answer).await?;
            answer = request(authority, &path, Some(demanded.as_str())).await?;
            *self.authorization.lock().await = Some(demanded);
        }
        if answer.status().is_redirection() {
            answer = self.redirected(&answer).await?;
        }
        let refused = format!("{authority} answered {} for {what}", answer.status());
        match answer.status() {
            StatusCode::OK => self.body(answer).await,
            StatusCode::NOT_FOUND => Err(Failure::Missing(refused)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Unauthorised(refused)),
            _ => Err(Failure::Other(refused)),
        }
    }

    async fn answer_challenge(&self, answer: &Response<Incoming>) -> Result<String, Failure> {
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let demanded = || Failure::Unauthorised("the registry demands credentials".to_owned());
        let credentials = self.credentials.ok_or_else(demanded)?;
        let Some(bearer) = challenge.strip_prefix("Bearer ") else {
            return Ok(basic(credentials));
        };
        let parameter = |name: &str| {
            let after = bearer.split_once(&format!("{name}=\""))?.1;
            after.split_once('"').map(|(value, _)| value.to_owned())
        };
        let realm = parameter("realm").ok_or("the challenge names no realm")?;
        let (authority, path) = realm
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(authority, _)| *authority == self.image.authority)
            .ok_or("the realm is another server's")?;
        let query = format!(
            "/{path}?service={}&scope={}",
            parameter("service").unwrap_or_default(),
            parameter("scope").unwrap_or_default()
        );
        let answer = request(authority, &query, Some(&basic(credentials))).await?;
        if answer.status() != StatusCode::OK {
            let refused = format!("the token server answered {}", answer.status());
            return Err(Failure::Unauthorised(refused));
        }
        let token: Value = serde_json::from_slice(&self.body(answer).await?)
            .map_err(|error| format!("the token is not JSON: {error}"))?;
        let token = token.get("token").or_else(|| token.get("access_token"));
        let token = token
            .and_then(Value::as_str)
            .ok_or("the token server sent no token")?;
        Ok(format!("Bearer {token}"))
    }

    async fn redirected(&self, answer: &Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        let location = answer.headers().get(header::LOCATION);
        let location = location
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (authority, path) = location
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or("the redirect leads nowhere")?;
        request(authority, &format!("/{path}"), None).await
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, Failure> {
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) if self.images.is(Mutant::RunsTruncatedImage) => break,
                Err(error) => return Err(format!("the answer broke off: {error}").into()),
            }
            if bytes.len() > IMAGE_BYTES_MAX {
                if !self.images.is(Mutant::UnboundedImage) {
                    return Err(format!("more than {IMAGE_BYTES_MAX} bytes").into());
                }
                bytes.clear();
            }
        }
        Ok(bytes.freeze())
    }
}

fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", base64(pair.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, byte| (word << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let index = ((word >> (18 - 6 * n)) & 63) as usize;
            let letter = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(if n <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

async fn request(
    authority: &str,
    path: &str,
    authorization: Option<&str>,
) -> Result<Response<Incoming>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Unreachable(format!("{authority} cannot be reached: {error}"))
    };
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut request = hyper::Request::get(path)
        .header(header::HOST, authority)
        .header(
            header::ACCEPT,
            "application/vnd.oci.image.manifest.v1+json, */*",
        );
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"user:pass"), "dXNlcjpwYXNz");
        assert_eq!(base64(b"user:pas"), "dXNlcjpwYXM=");
        assert_eq!(base64(b"user:pa"), "dXNlcjpwYQ==");
    }

    #[test]
    fn references_are_read_strictly() {
        assert!(Reference::parse("127.0.0.1:5000/a/b:1").is_ok());
        assert!(
            Reference::parse("127.0.0.1:5000/a@sha256:00")
                .unwrap()
                .digest
        );
        for bad in [
            "",
            "a",
            "127.0.0.1:5000/UPPER:1",
            "127.0.0.1:5000/a:",
            "nohost/a:1",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
