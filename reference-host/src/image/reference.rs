//! An image reference: a registry, a repository, and a tag or digest.

use std::fmt;
use std::str::FromStr;

use berth_sdk::address::{AddressError, Authority};
use berth_sdk::image_name::split_registry;
use oci_client::Reference;

use super::digest::{Digest, DigestError};

/// A parsed image reference, `[REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]`.
///
/// The defaults are Docker's: no registry means Docker Hub, a single name there means
/// `library/NAME`, neither tag nor digest means `latest`. If a digest is given, the tag is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    parsed: Reference,
    digest: Option<Digest>,
}

/// Reason why a text is not a valid image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("the reference is empty; an example of a valid one is ghcr.io/acme/hello:1.0")]
    Empty,
    /// The text is longer than any valid reference.
    #[error("the reference has {bytes} bytes; the limit is {REFERENCE_BYTES_MAX}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// The text is a URL.
    #[error("an image reference has no scheme; remove \"{scheme}://\"")]
    Scheme {
        /// Text before `://`.
        scheme: String,
    },
    /// The text contains white space or a control character.
    #[error("the reference contains white space or a control character")]
    Space,
    /// The part before the first slash is not a registry.
    #[error("\"{registry}\" is not a registry of the form HOST[:PORT]")]
    Registry {
        /// The registry as written.
        registry: String,
        /// Defect of the registry.
        #[source]
        source: AddressError,
    },
    /// The repository contains upper-case letters.
    #[error("repository \"{repository}\" must be in lower case")]
    Uppercase {
        /// The repository as written.
        repository: String,
    },
    /// The digest after `@` is invalid.
    #[error("invalid digest after \"@\"")]
    Digest(#[source] DigestError),
    /// Any other violation of the grammar.
    #[error("the reference does not have the form [REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]")]
    Malformed,
}

/// Length limit: a host name (255), a port (6), a repository (255), a tag (128), a digest (71) and
/// the separators, rounded up.
const REFERENCE_BYTES_MAX: usize = 768;

impl ImageReference {
    /// Returns the registry as written in references: `docker.io`, `ghcr.io`, `127.0.0.1:5000`,
    /// `[::1]:5000`. The name is in lower case, and an address has its canonical form.
    pub fn registry(&self) -> &str {
        self.parsed.registry()
    }

    /// Returns the `HOST[:PORT]` that requests go to. It differs from [`registry`](Self::registry)
    /// only for Docker Hub.
    pub fn authority(&self) -> &str {
        self.parsed.resolve_registry()
    }

    /// Returns the repository in the registry.
    pub fn repository(&self) -> &str {
        self.parsed.repository()
    }

    /// Returns the digest that the content must have, if the reference includes one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the identifier to request from the registry: the digest, else the tag.
    pub fn version(&self) -> &str {
        match &self.digest {
            Some(digest) => digest.as_str(),
            None => self.parsed.tag().unwrap_or("latest"),
        }
    }

    /// Returns a reference to `digest` in the same repository.
    pub(super) fn with_digest(&self, digest: &Digest) -> Self {
        let parsed = self.parsed.clone_with_digest(digest.as_str().to_owned());
        Self {
            parsed,
            digest: Some(digest.clone()),
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::TooLong { bytes: text.len() });
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ReferenceError::Space);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme {
                scheme: scheme.to_owned(),
            });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(ReferenceError::Digest)?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path) = split_registry(name).map_err(|source| {
            let registry = name.split('/').next().unwrap_or(name).to_owned();
            ReferenceError::Registry { registry, source }
        })?;
        let repository = path.rsplit_once(':').map_or(path, |(it, _tag)| it);
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase {
                repository: repository.to_owned(),
            });
        }
        let rest = text.get(name.len() - path.len()..).unwrap_or_default();
        let parsed = match registry {
            None => Reference::try_from(rest),
            Some(registry) => parse_in_registry(&registry, rest),
        };
        let parsed = parsed.map_err(|_| ReferenceError::Malformed)?;
        Ok(Self { parsed, digest })
    }
}

/// Registry in place of an IPv6 address, which the grammar of [`Reference`] lacks.
const STAND_IN: &str = "ipv6.invalid";

/// Parses the part of a reference after the registry.
fn parse_in_registry(
    registry: &Authority,
    rest: &str,
) -> Result<Reference, oci_client::ParseError> {
    let registry = registry.to_string();
    if !registry.starts_with('[') {
        return Reference::try_from(format!("{registry}/{rest}"));
    }
    let parsed = Reference::try_from(format!("{STAND_IN}/{rest}"))?;
    let repository = parsed.repository().to_owned();
    let (tag, digest) = (parsed.tag(), parsed.digest());
    Ok(match (tag.map(str::to_owned), digest.map(str::to_owned)) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag, digest)
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or_default()),
    })
}

/// Returns the canonical form of a registry, `HOST[:PORT]`. A text of another form stays as it is
/// and names no registry.
pub(super) fn canonical_registry(text: &str) -> String {
    text.parse::<Authority>()
        .map_or_else(|_| text.to_owned(), |authority| authority.to_string())
}

impl fmt::Display for ImageReference {
    /// Writes the canonical form, with all defaults; the cache uses it as its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parsed.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha() -> String {
        Digest::of(b"x").to_string()
    }

    #[test]
    fn writes_out_defaults() {
        for (text, canonical, authority, version) in [
            (
                "hello",
                "docker.io/library/hello:latest",
                "index.docker.io",
                "latest",
            ),
            (
                "acme/hello:2",
                "docker.io/acme/hello:2",
                "index.docker.io",
                "2",
            ),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest", "ghcr.io", "latest"),
            (
                "localhost/hello:A.b-C",
                "localhost/hello:A.b-C",
                "localhost",
                "A.b-C",
            ),
            (
                "127.0.0.1:5000/hello:1",
                "127.0.0.1:5000/hello:1",
                "127.0.0.1:5000",
                "1",
            ),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.authority(), authority);
            assert_eq!(reference.version(), version);
            assert_eq!(reference.digest(), None);
        }
    }

    #[test]
    fn registry_may_be_an_ipv6_address() {
        let digest = sha();
        for (text, canonical) in [
            ("[::1]:5000/hello", "[::1]:5000/hello:latest".to_owned()),
            (
                "[0:0:0:0:0:0:0:1]:5000/hello:1",
                "[::1]:5000/hello:1".to_owned(),
            ),
            ("[FD00::7]/a/b:1", "[fd00::7]/a/b:1".to_owned()),
            (
                "[::ffff:127.0.0.1]:5000/a:1",
                "127.0.0.1:5000/a:1".to_owned(),
            ),
            ("GHCR.io/a:1", "ghcr.io/a:1".to_owned()),
            (
                &format!("[::1]:5000/a:1@{digest}"),
                format!("[::1]:5000/a:1@{digest}"),
            ),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(Ok(&reference), canonical.parse().as_ref());
            let registry = canonical.split('/').next().unwrap();
            assert_eq!(reference.authority(), registry);
        }
        for (text, registry, source) in [
            ("[::1/hello:1", "[::1", AddressError::Ipv6),
            (
                "::1:5000/hello:1",
                "::1:5000",
                AddressError::MissingBrackets,
            ),
            (
                "[fe80::1%eth0]:5000/a",
                "[fe80::1%eth0]:5000",
                AddressError::Zone,
            ),
            ("a.b:99999/a", "a.b:99999", AddressError::Port),
        ] {
            let registry = registry.to_owned();
            let expected = ReferenceError::Registry { registry, source };
            assert_eq!(text.parse::<ImageReference>(), Err(expected));
        }
        for text in [
            "[::1]:5000/",
            "[::1]:5000/a b",
            "[::1]:5000/a/../b",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn prefers_digest_over_tag() {
        let reference: ImageReference = format!("ghcr.io/a/b:1@{}", sha()).parse().unwrap();
        assert_eq!(reference.version(), sha());
        assert_eq!(reference.digest().unwrap().as_str(), sha());
        let other = reference.with_digest(&Digest::of(b"y"));
        assert_eq!(
            other.to_string(),
            format!("ghcr.io/a/b@{}", Digest::of(b"y"))
        );
    }

    #[test]
    fn reports_each_mistake_separately() {
        let upper = |repository: &str| ReferenceError::Uppercase {
            repository: repository.into(),
        };
        for (text, expected) in [
            ("", ReferenceError::Empty),
            (&"a".repeat(769), ReferenceError::TooLong { bytes: 769 }),
            (
                "https://ghcr.io/a/b",
                ReferenceError::Scheme {
                    scheme: "https".into(),
                },
            ),
            (
                "oci://ghcr.io/a/b",
                ReferenceError::Scheme {
                    scheme: "oci".into(),
                },
            ),
            (" ghcr.io/a/b", ReferenceError::Space),
            ("ghcr.io/a/b\n", ReferenceError::Space),
            ("127.0.0.1:5055/UPPER:1", upper("UPPER")),
            ("Hello", upper("Hello")),
            ("Acme/hello:1", upper("Acme/hello")),
            (
                "a@sha256:12",
                ReferenceError::Digest(DigestError::Malformed),
            ),
            ("a@", ReferenceError::Digest(DigestError::Malformed)),
            (
                "a@md5:12",
                ReferenceError::Digest(DigestError::Algorithm("md5".into())),
            ),
            ("a:", ReferenceError::Malformed),
            ("a/:1", ReferenceError::Malformed),
            ("a/../b", ReferenceError::Malformed),
            ("a:b:c", ReferenceError::Malformed),
            ("/a", ReferenceError::Malformed),
            ("*", ReferenceError::Malformed),
            ("ä", ReferenceError::Malformed),
        ] {
            assert_eq!(
                text.parse::<ImageReference>().unwrap_err(),
                expected,
                "{text:?}"
            );
        }
    }
}
