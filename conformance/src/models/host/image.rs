//! The image cache of the model host, and its client for OCI registries.

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

/// Timeout of a pull, including all of its requests.
const PULL_TIMEOUT: Duration = Duration::from_secs(12);
/// Maximum size of a manifest or layer, in bytes.
const IMAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Timeout for mutants that wait without a limit. Longer than any deadline of the suite.
const UNLIMITED_TIMEOUT: Duration = Duration::from_secs(600);

/// Policy that decides whether a start contacts the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Contact the registry at each start.
    Always,
    /// Contact the registry if the image is not in the cache.
    IfNotPresent,
    /// Never contact the registry.
    Never,
}

impl PullPolicy {
    /// Returns the policy with this proto name; the default is IF_NOT_PRESENT.
    #[must_use]
    pub fn from_name(name: Option<&str>) -> PullPolicy {
        match name {
            Some("IMAGE_PULL_POLICY_ALWAYS") => PullPolicy::Always,
            Some("IMAGE_PULL_POLICY_NEVER") => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        }
    }
}

/// A program without steps, for mutants that run an image that they do not have.
const EMPTY_PROGRAM: Bytes = Bytes::from_static(b"{}");

/// Reason why a pull failed.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Other(String),
}

impl From<String> for PullError {
    fn from(message: String) -> Self {
        PullError::Other(message)
    }
}

impl From<&str> for PullError {
    fn from(message: &str) -> Self {
        PullError::Other(message.to_owned())
    }
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// Cache of pulled images.
#[derive(Debug)]
pub struct Images {
    mutant: Option<Mutant>,
    cache: Mutex<HashMap<String, Bytes>>,
    pulls_in_flight: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Images {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self {
            mutant,
            cache: Mutex::default(),
            pulls_in_flight: Mutex::default(),
        })
    }

    /// Returns the layer of an image and pulls it if needed.
    ///
    /// If the future is dropped, the pull continues.
    ///
    /// # Errors
    /// Returns the reason of the failure, without secrets.
    pub async fn pull(
        self: &Arc<Self>,
        reference: &str,
        policy: PullPolicy,
        credentials: Option<Credentials>,
    ) -> Result<Bytes, String> {
        let policy = self.effective_policy(policy)?;
        let images = Arc::clone(self);
        let reference = reference.to_owned();
        let pull = async move { images.pull_once(&reference, policy, credentials).await };
        tokio::spawn(pull)
            .await
            .unwrap_or_else(|error| Err(format!("the pull was aborted: {error}")))
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn effective_policy(&self, policy: PullPolicy) -> Result<PullPolicy, String> {
        match policy {
            PullPolicy::Always if self.is(Mutant::AlwaysPolicyUsesCache) => {
                Ok(PullPolicy::IfNotPresent)
            }
            PullPolicy::IfNotPresent if self.is(Mutant::IfNotPresentPolicyContactsRegistry) => {
                Ok(PullPolicy::Always)
            }
            PullPolicy::Never if self.is(Mutant::NeverPolicyContactsRegistry) => {
                Ok(PullPolicy::IfNotPresent)
            }
            PullPolicy::Never if self.is(Mutant::NeverPolicyAlwaysFails) => {
                Err("the pull policy is NEVER".to_owned())
            }
            policy => Ok(policy),
        }
    }

    async fn pull_once(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: Option<Credentials>,
    ) -> Result<Bytes, String> {
        let image = match Reference::parse(reference) {
            Err(_) if self.is(Mutant::MalformedReferenceRuns) => return Ok(EMPTY_PROGRAM),
            parsed => parsed?,
        };
        if image.is_digest && self.is(Mutant::NoDigestReferences) {
            return Err(format!("image `{reference}`: digests are not supported"));
        }
        let in_flight = Arc::clone(
            self.pulls_in_flight
                .lock()
                .await
                .entry(reference.to_owned())
                .or_default(),
        );
        let _guard = in_flight.lock().await;
        let cached = self.cache.lock().await.get(reference).cloned();
        match (policy, cached) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(bytes)) => return Ok(bytes),
            (PullPolicy::Never, None) => {
                return Err(format!(
                    "image `{reference}` is not cached and the pull policy is NEVER"
                ));
            }
            _ => {}
        }
        let credentials = credentials.filter(|_| !self.is(Mutant::IgnoresPullSecret));
        let pull_timeout = match self.mutant {
            Some(
                Mutant::UnboundedPull | Mutant::UnboundedImageSize | Mutant::UnboundedStartReply,
            ) => UNLIMITED_TIMEOUT,
            _ => PULL_TIMEOUT,
        };
        let pulled = timeout(pull_timeout, self.fetch(&image, credentials.as_ref())).await;
        let bytes = match pulled {
            Err(_) => return Err(format!("cannot pull `{reference}`: timeout")),
            Ok(Err(PullError::NotFound(_))) if self.is(Mutant::MissingImageRuns) => EMPTY_PROGRAM,
            Ok(Err(PullError::Unauthorized(_))) if self.is(Mutant::UnauthorizedImageRuns) => {
                EMPTY_PROGRAM
            }
            Ok(Err(PullError::Unreachable(_))) if self.is(Mutant::UnreachableRegistryHangs) => {
                tokio::time::sleep(UNLIMITED_TIMEOUT).await;
                EMPTY_PROGRAM
            }
            Ok(pulled) => pulled.map_err(|error| format!("cannot pull `{reference}`: {error}"))?,
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
    ) -> Result<Bytes, PullError> {
        let registry = PullClient {
            images: self,
            image,
            credentials,
            authorization: Mutex::default(),
        };
        let manifest = registry
            .get(&format!("manifests/{}", image.version))
            .await?;
        if image.is_digest {
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
            _ => return Err("the manifest does not have exactly one layer".into()),
        };
        let text = |name| layer.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("mediaType") != MEDIA_TYPE && !self.is(Mutant::RunsUnsupportedImages) {
            return Err(format!("unsupported media type {:?}", text("mediaType")).into());
        }
        if layer.get("size").and_then(Value::as_u64).unwrap_or(0) > IMAGE_BYTES_MAX as u64 {
            return Err(format!("the layer is larger than {IMAGE_BYTES_MAX} bytes").into());
        }
        let bytes = registry.get(&format!("blobs/{}", text("digest"))).await?;
        self.verify(&bytes, text("digest"))?;
        Ok(bytes)
    }

    fn verify(&self, bytes: &[u8], digest: &str) -> Result<(), PullError> {
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
        Err(format!("digest mismatch: expected {digest}, received sha256:{actual}").into())
    }
}

/// Image reference: `AUTHORITY/REPOSITORY[:TAG][@sha256:HEX]`.
#[derive(Debug)]
struct Reference {
    authority: String,
    repository: String,
    version: String,
    is_digest: bool,
}

impl Reference {
    fn parse(reference: &str) -> Result<Reference, String> {
        let invalid = || format!("invalid image reference `{reference}`");
        let (authority, path) = reference.split_once('/').ok_or_else(invalid)?;
        let (repository, version, is_digest) = match path.split_once('@') {
            Some((name, digest)) => (name.split(':').next().unwrap_or_default(), digest, true),
            None => {
                let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
                (repository, tag, false)
            }
        };
        let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        let is_valid = !repository.is_empty()
            && repository.chars().all(is_lower)
            && !version.is_empty()
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c))
            && authority.contains([':', '.']);
        if !is_valid {
            return Err(invalid());
        }
        Ok(Reference {
            authority: authority.to_owned(),
            repository: repository.to_owned(),
            version: version.to_owned(),
            is_digest,
        })
    }
}

/// Client for the requests of one pull. It keeps the authorization that the registry has demanded.
struct PullClient<'a> {
    images: &'a Images,
    image: &'a Reference,
    credentials: Option<&'a Credentials>,
    authorization: Mutex<Option<String>>,
}

impl PullClient<'_> {
    async fn get(&self, resource: &str) -> Result<Bytes, PullError> {
        let path = format!("/v2/{}/{resource}", self.image.repository);
        let authority = self.image.authority.as_str();
        let mut authorization = self.authorization.lock().await.clone();
        if self.images.is(Mutant::SendsCredentialsPreemptively) {
            authorization = self.credentials.map(basic);
        }
        let mut response = request(authority, &path, authorization.as_deref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && authorization.is_none() {
            let value = self.authorization_for(&response).await?;
            response = request(authority, &path, Some(value.as_str())).await?;
            *self.authorization.lock().await = Some(value);
        }
        if response.status().is_redirection() {
            response = self.follow_redirect(&response).await?;
        }
        let error = format!(
            "{authority} responded with {} to {resource}",
            response.status()
        );
        match response.status() {
            StatusCode::OK => self.body(response).await,
            StatusCode::NOT_FOUND => Err(PullError::NotFound(error)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PullError::Unauthorized(error)),
            _ => Err(PullError::Other(error)),
        }
    }

    /// Returns the `Authorization` header for the challenge in `response`.
    async fn authorization_for(&self, response: &Response<Incoming>) -> Result<String, PullError> {
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let missing = || PullError::Unauthorized("the registry requires credentials".to_owned());
        let credentials = self.credentials.ok_or_else(missing)?;
        let Some(bearer) = challenge.strip_prefix("Bearer ") else {
            return Ok(basic(credentials));
        };
        let parameter = |name: &str| {
            let (_, rest) = bearer.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let realm = parameter("realm").ok_or("the challenge has no realm")?;
        let (authority, path) = realm
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(authority, _)| *authority == self.image.authority)
            .ok_or("the realm belongs to another server")?;
        let query = format!(
            "/{path}?service={}&scope={}",
            parameter("service").unwrap_or_default(),
            parameter("scope").unwrap_or_default()
        );
        let response = request(authority, &query, Some(&basic(credentials))).await?;
        if response.status() != StatusCode::OK {
            let error = format!("the token server responded with {}", response.status());
            return Err(PullError::Unauthorized(error));
        }
        let token: Value = serde_json::from_slice(&self.body(response).await?)
            .map_err(|error| format!("the token is not JSON: {error}"))?;
        let token = token.get("token").or_else(|| token.get("access_token"));
        let token = token
            .and_then(Value::as_str)
            .ok_or("the response of the token server contains no token")?;
        Ok(format!("Bearer {token}"))
    }

    async fn follow_redirect(
        &self,
        response: &Response<Incoming>,
    ) -> Result<Response<Incoming>, PullError> {
        let location = response.headers().get(header::LOCATION);
        let location = location
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let absolute = location.strip_prefix("http://");
        let (authority, path) = match location.strip_prefix('/') {
            Some(path) => (self.image.authority.as_str(), path),
            None => absolute
                .and_then(|rest| rest.split_once('/'))
                .ok_or("the redirect has no valid location")?,
        };
        request(authority, &format!("/{path}"), None).await
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, PullError> {
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) if self.images.is(Mutant::RunsTruncatedImage) => break,
                Err(error) => return Err(format!("the response is incomplete: {error}").into()),
            }
            if bytes.len() > IMAGE_BYTES_MAX {
                if !self.images.is(Mutant::UnboundedImageSize) {
                    return Err(format!("the response exceeds {IMAGE_BYTES_MAX} bytes").into());
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
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| (group << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let index = ((group >> (18 - 6 * n)) & 63) as usize;
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
) -> Result<Response<Incoming>, PullError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        PullError::Unreachable(format!("cannot connect to {authority}: {error}"))
    };
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
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
        .map_err(|error| unreachable(&error))?;
    sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_base64() {
        assert_eq!(base64(b"user:pass"), "dXNlcjpwYXNz");
        assert_eq!(base64(b"user:pas"), "dXNlcjpwYXM=");
        assert_eq!(base64(b"user:pa"), "dXNlcjpwYQ==");
    }

    #[test]
    fn rejects_invalid_references() {
        assert!(Reference::parse("127.0.0.1:5000/a/b:1").is_ok());
        assert!(
            Reference::parse("127.0.0.1:5000/a@sha256:00")
                .unwrap()
                .is_digest
        );
        for invalid in [
            "",
            "a",
            "127.0.0.1:5000/UPPER:1",
            "127.0.0.1:5000/a:",
            "nohost/a:1",
        ] {
            assert!(Reference::parse(invalid).is_err(), "{invalid}");
        }
    }
}
