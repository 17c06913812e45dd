//! The Docker config file of the host: registry credentials for all workloads.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::credentials::Credentials;

/// Size limit. A Docker config has a few hundred bytes for each registry.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Returns the path of the file: `$DOCKER_CONFIG/config.json`, else `$HOME/.docker/config.json`.
pub(super) fn path(docker_config: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let directory = docker_config.or_else(|| home.map(|home| home.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Returns the credentials for `registry` in the file at `path`.
///
/// Reads only `auths`. Credential helpers (`credsStore`, `credHelpers`) and identity tokens are not
/// supported: a host does not run programs that a config file names. A file that cannot be read is
/// ignored with a warning, because the image may be public.
pub(super) async fn credentials(path: &Path, registry: &str) -> Option<Credentials> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) if metadata.len() <= CONFIG_BYTES_MAX => {}
        Ok(_) => {
            tracing::warn!(path = %path.display(), "ignoring the Docker config: it is too large");
            return None;
        }
        Err(_) => return None,
    }
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the Docker config");
            return None;
        }
    };
    match find(&text, registry) {
        Ok(credentials) => credentials,
        Err(reason) => {
            tracing::warn!(path = %path.display(), reason, "ignoring the Docker config");
            None
        }
    }
}

/// Finds the entry for `registry` in the text of a Docker config.
fn find(text: &[u8], registry: &str) -> Result<Option<Credentials>, &'static str> {
    let config: serde_json::Value =
        serde_json::from_slice(text).map_err(|_| "it is not valid JSON")?;
    let Some(auths) = config.get("auths").and_then(serde_json::Value::as_object) else {
        let helper = config.get("credsStore").or(config.get("credHelpers"));
        return match helper {
            Some(_) => Err("credential helpers are not supported; put credentials into `auths`"),
            None => Ok(None),
        };
    };
    match auths.iter().find(|(key, _)| matches(key, registry)) {
        Some((_, entry)) => read_entry(entry),
        None => Ok(None),
    }
}

/// Returns whether the key of an entry names `registry`: `ghcr.io`, `https://ghcr.io`,
/// `https://ghcr.io/v2/`, and for Docker Hub its historic `https://index.docker.io/v1/`.
fn matches(key: &str, registry: &str) -> bool {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = key.split_once('/').map_or(key, |(host, _)| host);
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    host == registry || (hub.contains(&host) && hub.contains(&registry))
}

fn read_entry(entry: &serde_json::Value) -> Result<Option<Credentials>, &'static str> {
    let text = |name: &str| {
        entry
            .get(name)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    if !text("auth").is_empty() {
        let invalid = "an `auth` entry is not base64 of USER:PASSWORD";
        let bytes = STANDARD.decode(text("auth").trim()).map_err(|_| invalid)?;
        let pair = String::from_utf8(bytes).map_err(|_| invalid)?;
        let (username, password) = pair.split_once(':').ok_or(invalid)?;
        // Docker pads the password with NUL bytes in some files.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials {
            username: username.to_owned(),
            password,
        }));
    }
    if !text("username").is_empty() {
        let (username, password) = (text("username").to_owned(), text("password").to_owned());
        return Ok(Some(Credentials { username, password }));
    }
    if !text("identitytoken").is_empty() {
        return Err("identity tokens are not supported; use a user name and a password");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(auths: &str, registry: &str) -> Option<(String, String)> {
        let config = format!("{{\"auths\": {auths}}}");
        let found = find(config.as_bytes(), registry).unwrap();
        found.map(|found| (found.username, found.password))
    }

    #[test]
    fn finds_entries_under_every_form_of_the_registry() {
        let bob = Some(("bob".to_owned(), "a:b".to_owned()));
        let auth = format!("{{\"auth\": \"{}\"}}", STANDARD.encode("bob:a:b"));
        for (key, registry) in [
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("https://ghcr.io/v2/", "ghcr.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
        ] {
            assert_eq!(
                lookup(&format!("{{\"{key}\": {auth}}}"), registry),
                bob,
                "{key}"
            );
        }
        assert_eq!(
            lookup(&format!("{{\"ghcr.io\": {auth}}}"), "ghcr.io:443"),
            None
        );
        assert_eq!(
            lookup(&format!("{{\"evil-ghcr.io\": {auth}}}"), "ghcr.io"),
            None
        );
        let plain = "{\"a.b\": {\"username\": \"bob\", \"password\": \"a:b\"}}";
        assert_eq!(lookup(plain, "a.b"), bob);
        assert_eq!(lookup("{\"a.b\": {}}", "a.b"), None);
    }

    #[test]
    fn rejects_unsupported_configs_with_reason() {
        for text in [
            "not json",
            "{\"credsStore\": \"desktop\"}",
            "{\"auths\": {\"a.b\": {\"auth\": \"%%%\"}}}",
            "{\"auths\": {\"a.b\": {\"identitytoken\": \"t\"}}}",
        ] {
            assert!(find(text.as_bytes(), "a.b").is_err(), "{text}");
        }
        assert_eq!(find(b"{}", "a.b"), Ok(None));
    }

    #[test]
    fn prefers_docker_config_over_home() {
        let (a, b) = (Some(PathBuf::from("/a")), Some(PathBuf::from("/b")));
        assert_eq!(path(a, b.clone()), Some("/a/config.json".into()));
        assert_eq!(path(None, b), Some("/b/.docker/config.json".into()));
        assert_eq!(path(None, None), None);
    }
}
