//! A user name and password for a registry, with a `Debug` that hides the password.

use std::fmt;

/// Credentials for one registry, from the workload's `imagePullSecret` or from the host's Docker
/// config.
///
/// `Debug` shows only the user name, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password, or a token that the registry accepts as one.
    pub password: String,
}

impl Credentials {
    /// Returns whether both are empty. `imagePullSecret: {}` means an anonymous pull, without the
    /// host's own credentials.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.password.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &"[redacted]")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let credentials = Credentials {
            username: "bob".into(),
            password: "hunter2".into(),
        };
        assert!(!format!("{credentials:#?}").contains("hunter2"));
        assert!(!credentials.is_empty());
    }
}
