//! Credentials for an image, from a Docker configuration with credentials for many registries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_proto::ImagePullSecret;
use berth_sdk::image_name::ImageName;
use serde::Deserialize;

/// Type of Secrets with a Docker configuration.
pub(super) const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// Key of the configuration in the Secret.
pub(super) const DATA_KEY: &str = ".dockerconfigjson";

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// Base64 of `username:password`, as `docker login` writes it.
    #[serde(default)]
    auth: String,
}

/// Returns the credentials in `config` for the registry of `image`, from the most specific matching
/// entry; `None` if no entry matches.
pub(super) fn credentials(config: &[u8], image: &str) -> Result<Option<ImagePullSecret>, String> {
    // The text of the error is omitted, because it may contain a value.
    let config: DockerConfig = serde_json::from_slice(config).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("not a Docker configuration, at line {line}, column {column}")
    })?;
    // A malformed reference has no credentials; the host names the mistake.
    let Ok(image) = image.parse::<ImageName>() else {
        return Ok(None);
    };
    let entries = config
        .auths
        .iter()
        .map(|(key, entry)| (key.as_str(), entry));
    match image.select_entry(entries) {
        Some((_, entry)) => Ok(Some(entry.credentials()?)),
        None => Ok(None),
    }
}

impl Entry {
    fn credentials(&self) -> Result<ImagePullSecret, &'static str> {
        if !self.username.is_empty() || !self.password.is_empty() {
            return Ok(ImagePullSecret {
                username: self.username.clone(),
                password: self.password.clone(),
            });
        }
        if self.auth.is_empty() {
            // The protocol cannot carry identity tokens.
            return Err("the entry of the registry has neither `username` nor `auth`");
        }
        let bytes = STANDARD
            .decode(self.auth.trim())
            .map_err(|_| "`auth` is not Base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is not UTF-8")?;
        let (username, password) = text.split_once(':').ok_or("`auth` has no colon")?;
        // Some tools pad the password with null bytes.
        let password = password.trim_end_matches('\0');
        Ok(ImagePullSecret {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"auths": {
        "ghcr.io": {"username": "gina", "password": "hub"},
        "https://ghcr.io/team": {"auth": "dGVhbTpwOmFzcw=="},
        "https://index.docker.io/v1/": {"username": "dora", "password": "cker"},
        "registry.example:5000": {"username": "rex", "password": "ample"},
        "[::1]:5000": {"username": "six", "password": "literal"},
        "token.example": {"identitytoken": "t"}
    }}"#;

    fn user(image: &str) -> Option<String> {
        credentials(CONFIG.as_bytes(), image)
            .expect("a configuration")
            .map(|found| found.username)
    }

    #[test]
    fn returns_only_credentials_for_registry_of_image() {
        assert_eq!(user("ghcr.io/other/a:1").as_deref(), Some("gina"));
        assert_eq!(user("ghcr.io/team/a:1").as_deref(), Some("team"));
        assert_eq!(user("ghcr.io/teamwork/a:1").as_deref(), Some("gina"));
        assert_eq!(
            user("registry.example:5000/a@sha256:00").as_deref(),
            Some("rex")
        );
        assert_eq!(user("registry.example/a:1"), None);
        assert_eq!(user("evil.example/ghcr.io/a:1"), None);
        assert_eq!(user("[0::1]:5000/hello:1").as_deref(), Some("six"));
        assert_eq!(user("::1:5000/hello:1"), None);
        for image in [
            "hello:1",
            "library/hello",
            "docker.io/hello",
            "index.docker.io/hello",
        ] {
            assert_eq!(user(image).as_deref(), Some("dora"), "{image}");
        }
    }

    #[test]
    fn password_may_contain_colon() {
        let found = credentials(CONFIG.as_bytes(), "ghcr.io/team")
            .expect("a configuration")
            .expect("an entry");
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("team", "p:ass")
        );
    }

    #[test]
    fn rejects_invalid_entries_without_printing_them() {
        assert!(credentials(CONFIG.as_bytes(), "token.example/a").is_err());
        let error = credentials(br#"{"auths": {"a.b": {"password": 12345}}}"#, "a.b/c")
            .expect_err("an error");
        assert!(!error.contains("12345"));
    }
}
