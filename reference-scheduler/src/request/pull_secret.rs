//! The credentials for one image, out of a Docker configuration that may hold those of many
//! registries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_proto::ImagePullSecret;
use serde::Deserialize;

/// The type of Secrets that hold such a configuration.
pub(super) const KIND: &str = "kubernetes.io/dockerconfigjson";
/// The key under which they hold it.
pub(super) const KEY: &str = ".dockerconfigjson";

/// The registry of images that name none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The other names of that registry.
const DEFAULT_REGISTRY_ALIASES: [&str; 3] = [
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];

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
    /// Base64 of `username:password`; what `docker login` writes.
    #[serde(default)]
    auth: String,
}

/// The entry of `config` for the registry of `image`; the most exact one where several fit, none
/// where the configuration says nothing of that registry.
pub(super) fn credentials(
    config: &[u8],
    image: &str,
) -> Result<Option<ImagePullSecret>, &'static str> {
    // The error of serde is left out: it may quote what it read.
    let config: DockerConfig =
        serde_json::from_slice(config).map_err(|_| "it is no Docker configuration")?;
    let (registry, repository) = split(image);
    let fits = |key: &str| {
        let (host, path) = entry_key(key);
        (host == registry && is_prefix(&path, repository)).then_some(path.len())
    };
    let best = config
        .auths
        .iter()
        .filter_map(|(key, entry)| Some((fits(key)?, entry)));
    match best.max_by_key(|(exactness, _)| *exactness) {
        Some((_, entry)) => entry.credentials().map(Some),
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
            // An identity token alone cannot be carried by the protocol.
            return Err("the entry of the registry has neither a user name nor `auth`");
        }
        let bytes = STANDARD
            .decode(self.auth.trim())
            .map_err(|_| "`auth` is not Base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is not UTF-8")?;
        let (username, password) = text.split_once(':').ok_or("`auth` has no colon")?;
        // Some tools pad the password with zero bytes.
        let password = password.trim_end_matches('\0');
        Ok(ImagePullSecret {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// Registry and repository of an image reference. What stands before the first slash is a registry
/// only if it looks like a host name.
fn split(image: &str) -> (String, &str) {
    match image.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
            (canonical(first), rest)
        }
        _ => (DEFAULT_REGISTRY.to_owned(), image),
    }
}

/// Host and path of a key of `auths`: `https://ghcr.io/v2/`, `ghcr.io/team`, `registry:5000`.
fn entry_key(key: &str) -> (String, String) {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    // The versions of the registry API are no part of a repository's name.
    let path = if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    };
    (canonical(host), path.to_owned())
}

fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DEFAULT_REGISTRY_ALIASES.contains(&host.as_str()) {
        DEFAULT_REGISTRY.to_owned()
    } else {
        host
    }
}

/// Whether `path` names `repository` or something above it.
fn is_prefix(path: &str, repository: &str) -> bool {
    path.is_empty()
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"auths": {
        "ghcr.io": {"username": "gina", "password": "hub"},
        "https://ghcr.io/team": {"auth": "dGVhbTpwOmFzcw=="},
        "https://index.docker.io/v1/": {"username": "dora", "password": "cker"},
        "registry.example:5000": {"username": "rex", "password": "ample"},
        "token.example": {"identitytoken": "t"}
    }}"#;

    fn user(image: &str) -> Option<String> {
        credentials(CONFIG.as_bytes(), image)
            .expect("a configuration")
            .map(|found| found.username)
    }

    #[test]
    fn only_the_registry_of_the_image_counts() {
        assert_eq!(user("ghcr.io/other/a:1").as_deref(), Some("gina"));
        assert_eq!(user("ghcr.io/team/a:1").as_deref(), Some("team"));
        assert_eq!(user("ghcr.io/teamwork/a:1").as_deref(), Some("gina"));
        assert_eq!(
            user("registry.example:5000/a@sha256:00").as_deref(),
            Some("rex")
        );
        assert_eq!(user("registry.example/a:1"), None);
        assert_eq!(user("evil.example/ghcr.io/a:1"), None);
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
    fn a_password_may_hold_a_colon() {
        let found = credentials(CONFIG.as_bytes(), "ghcr.io/team")
            .expect("a configuration")
            .expect("an entry");
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("team", "p:ass")
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_being_shown() {
        assert!(credentials(CONFIG.as_bytes(), "token.example/a").is_err());
        let refusal = credentials(br#"{"auths": {"a.b": {"password": 12345}}}"#, "a.b/c")
            .expect_err("a refusal");
        assert!(!refusal.contains("12345"));
    }
}
