//! An image reference: which registry, which repository, and which tag or digest of it.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;

use super::digest::{Digest, DigestError};

/// A parsed image reference, `[REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]`.
///
/// The defaults are those that people know: no registry means Docker Hub, a single name there means
/// `library/NAME`, neither tag nor digest means `latest`. When a digest is given, it decides and the tag is
/// only a note to the reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    parsed: Reference,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("the image reference is empty, write one like ghcr.io/acme/hello:1.0")]
    Empty,
    /// Longer than any reference can be.
    #[error(
        "the image reference is {bytes} bytes long, at most {REFERENCE_BYTES_MAX} are possible"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A URL.
    #[error("an image reference has no scheme, leave out \"{scheme}://\"")]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// White space or a control character.
    #[error("the image reference has white space or a control character in it")]
    Space,
    /// Upper case in the repository.
    #[error("the repository \"{repository}\" must be in lower case")]
    Uppercase {
        /// The repository as written.
        repository: String,
    },
    /// Bad digest after `@`.
    #[error("the digest after \"@\" cannot be used")]
    Digest(#[source] DigestError),
    /// Anything else.
    #[error("not of the form [REGISTRY/]REPOSITORY[:TAG][@sha256:HEX]")]
    Malformed,
}

/// The longest reference: a host name (255), a port (6), a repository (255), a tag (128), a digest (71) and
/// the marks between them, rounded up.
const REFERENCE_BYTES_MAX: usize = 768;

impl ImageReference {
    /// The registry as people write it: `docker.io`, `ghcr.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        self.parsed.registry()
    }

    /// The `HOST[:PORT]` that requests go to. It differs from [`registry`](Self::registry) for Docker Hub only.
    pub fn authority(&self) -> &str {
        self.parsed.resolve_registry()
    }

    /// The repository inside the registry.
    pub fn repository(&self) -> &str {
        self.parsed.repository()
    }

    /// The digest that the content must have, when the reference gives one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest, else the tag.
    pub fn version(&self) -> &str {
        match &self.digest {
            Some(digest) => digest.as_str(),
            None => self.parsed.tag().unwrap_or("latest"),
        }
    }

    /// The same repository, by digest.
    pub(super) fn at(&self, digest: &Digest) -> Self {
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
        let repository = repository_of(name);
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase {
                repository: repository.to_owned(),
            });
        }
        let parsed = Reference::try_from(text).map_err(|_| ReferenceError::Malformed)?;
        Ok(Self { parsed, digest })
    }
}

/// The repository as written: `name` without its registry and without its tag.
fn repository_of(name: &str) -> &str {
    let path = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => name,
    };
    path.rsplit_once(':')
        .map_or(path, |(repository, _tag)| repository)
}

impl fmt::Display for ImageReference {
    /// The canonical spelling, defaults written out: the key of the cache.
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
    fn defaults_are_written_out() {
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
    fn a_digest_decides_over_a_tag() {
        let reference: ImageReference = format!("ghcr.io/a/b:1@{}", sha()).parse().unwrap();
        assert_eq!(reference.version(), sha());
        assert_eq!(reference.digest().unwrap().as_str(), sha());
        let other = reference.at(&Digest::of(b"y"));
        assert_eq!(
            other.to_string(),
            format!("ghcr.io/a/b@{}", Digest::of(b"y"))
        );
    }

    #[test]
    fn each_mistake_has_its_own_words() {
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
