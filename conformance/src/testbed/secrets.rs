//! Values that reports must redact.

use std::sync::{PoisonError, RwLock};

/// Values that reports must not show.
#[derive(Default)]
pub struct Secrets(RwLock<Vec<String>>);

/// Shorter values are not searched for: they would stand in every text by chance.
const MIN_SECRET_BYTES: usize = 4;

impl Secrets {
    /// One more.
    pub fn add(&self, value: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if value.len() >= MIN_SECRET_BYTES && !secrets.iter().any(|known| known == value) {
            secrets.push(value.to_owned());
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// The text with every secret blotted out.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, "[redacted]")
        })
    }

    /// Whether one of the secrets stands in the bytes.
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().any(|secret| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        })
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}
