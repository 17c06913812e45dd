//! A user name and password for a registry, that cannot be printed by accident.

use std::fmt;

/// Credentials for one registry: from the workload's `imagePullSecret`, or from the host's Docker config.
///
/// `Debug` shows the user name only, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, or what the registry takes in its place (a personal access token).
    pub password: String,
}

impl Credentials {
    /// True for `imagePullSecret: {}`: says "pull anonymously", and keeps the host's own credentials out of it.
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
