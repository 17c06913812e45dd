//! A sha256 digest: the name of content in a registry and in the cache.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A sha256 digest in its registry spelling, `sha256:` and 64 hex digits in lower case.
///
/// The OCI specification allows other algorithms. Registries of Wasm artifacts use this one, and
/// the host rejects the others by name instead of leaving content unverified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

/// Reason why a text is not a valid [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// An algorithm other than sha256.
    #[error("unsupported digest algorithm {0:?}; use sha256")]
    Algorithm(String),
    /// The part after the colon is not 64 hex digits in lower case.
    #[error("invalid digest; expected \"sha256:\" and 64 hex digits in lower case")]
    Malformed,
}

/// Text before the hex digits.
const PREFIX: &str = "sha256:";
/// Length of the hex part: two digits for each of the 32 bytes.
const HEX_LEN: usize = 64;

impl Digest {
    /// Returns the digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut digester = Digester::default();
        digester.update(content);
        digester.finish()
    }

    /// Returns the 64 hex digits alone, a safe file name.
    pub fn hex(&self) -> &str {
        self.0.get(PREFIX.len()..).unwrap_or_default()
    }

    /// Returns the full form, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Malformed)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.chars().take(32).collect()));
        }
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != HEX_LEN || !hex.bytes().all(lower_hex) {
            return Err(DigestError::Malformed);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Computes a [`Digest`] of content that arrives in chunks.
#[derive(Default)]
pub(super) struct Digester(sha2::Sha256);

impl Digester {
    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    pub(super) fn finish(self) -> Digest {
        let mut text = String::with_capacity(PREFIX.len() + HEX_LEN);
        text.push_str(PREFIX);
        for byte in self.0.finalize() {
            for nibble in [byte >> 4, byte & 0x0f] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Digest(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_empty_content() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(Digest::of(b"").hex(), &empty[7..]);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn rejects_invalid_digests() {
        let hex = Digest::of(b"").hex().to_owned();
        for (text, expected) in [
            (String::new(), DigestError::Malformed),
            (hex.clone(), DigestError::Malformed),
            (format!("sha256:{}", &hex[1..]), DigestError::Malformed),
            (
                format!("sha256:{}", hex.to_uppercase()),
                DigestError::Malformed,
            ),
            (
                format!("sha256:../../{}", &hex[6..]),
                DigestError::Malformed,
            ),
            (
                format!("sha512:{hex}{hex}"),
                DigestError::Algorithm("sha512".into()),
            ),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err(), expected, "{text}");
        }
    }
}
