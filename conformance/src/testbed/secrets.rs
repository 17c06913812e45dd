//! Secret values, which reports redact.

use std::sync::{PoisonError, RwLock};

/// Secret values, which no report may contain.
#[derive(Default)]
pub struct Secrets(RwLock<Vec<String>>);

/// Minimum length of a secret. Shorter values occur in any text by chance.
const MIN_SECRET_BYTES: usize = 4;

impl Secrets {
    /// Adds a secret.
    pub fn add(&self, value: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if value.len() >= MIN_SECRET_BYTES && !secrets.iter().any(|secret| secret == value) {
            secrets.push(value.to_owned());
        }
    }

    /// Returns whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Returns the text with every secret replaced by `[redacted]`.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, "[redacted]")
        })
    }

    /// Returns whether the bytes contain a secret.
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
