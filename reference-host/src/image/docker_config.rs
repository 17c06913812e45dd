//! The Docker config file of the host: registry credentials for all workloads.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_sdk::image_name::ImageName;
use serde_json::Value;

use super::credentials::Credentials;

/// Size limit. A Docker config has a few hundred bytes for each registry.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Limit of logged helpers and defects, far above their number in any real file.
const LOGGED_MAX: usize = 64;

/// Returns the path of the file: `$DOCKER_CONFIG/config.json`, else `$HOME/.docker/config.json`.
pub(super) fn path(docker_config: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let directory = docker_config.or_else(|| home.map(|home| home.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// A Docker config file, read again at each use.
///
/// Only `auths` is used. Credential helpers (`credsStore`, `credHelpers`) and identity tokens are
/// not supported: a host does not run programs that a config file names.
#[derive(Debug)]
pub(super) struct DockerConfig {
    path: PathBuf,
    /// Helpers and defects that were logged already, so that each is logged once.
    logged: Mutex<HashSet<String>>,
}

impl DockerConfig {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            logged: Mutex::default(),
        }
    }

    /// Logs each credential helper that the file names, because the images whose credentials it
    /// keeps are pulled anonymously. Does blocking I/O.
    pub(super) fn log_helpers(&self) {
        if let Some(config) = self.read() {
            self.log_helpers_in(&config);
        }
    }

    /// Returns the credentials for `image`. A file that cannot be read is ignored with a warning,
    /// because the image may be public. Does blocking I/O.
    pub(super) fn credentials(&self, image: &ImageName) -> Option<Credentials> {
        let config = self.read()?;
        self.log_helpers_in(&config);
        find(&config, image).unwrap_or_else(|reason| {
            self.log_once(reason, || {
                tracing::warn!(path = %self.path.display(), reason, "ignoring the Docker config");
            });
            None
        })
    }

    /// Reads the file. A missing file is not an error.
    fn read(&self) -> Option<Value> {
        let path = self.path.display();
        match read_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.log_once("unreadable", || {
                    tracing::warn!(%path, %error, "cannot read the Docker config");
                });
                None
            }
            Ok(text) if text.len() as u64 > CONFIG_BYTES_MAX => {
                self.log_once("too large", || {
                    tracing::warn!(%path, "ignoring the Docker config: it is too large");
                });
                None
            }
            Ok(text) => serde_json::from_slice(&text).ok().or_else(|| {
                self.log_once("not JSON", || {
                    tracing::warn!(%path, "ignoring the Docker config: it is not valid JSON");
                });
                None
            }),
        }
    }

    fn log_helpers_in(&self, config: &Value) {
        for helper in helpers(config) {
            self.log_once(&format!("helper {helper}"), || {
                tracing::warn!(
                    path = %self.path.display(),
                    helper,
                    "the Docker config names a credential helper, which this host does not run: \
                     its registries are accessed anonymously; put the credentials into `auths`, \
                     or set imagePullSecret"
                );
            });
        }
    }

    fn log_once(&self, subject: &str, log: impl FnOnce()) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED_MAX && logged.insert(subject.to_owned()) {
            log();
        }
    }
}

/// Returns the content of a regular file, up to the size limit and one byte. Opening anything else,
/// such as a named pipe, could wait forever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let (file, mut text) = (std::fs::File::open(path)?, Vec::new());
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the names of the credential helpers, each once.
fn helpers(config: &Value) -> BTreeSet<&str> {
    let store = config.get("credsStore");
    let by_registry = config.get("credHelpers").and_then(Value::as_object);
    store
        .into_iter()
        .chain(by_registry.into_iter().flat_map(serde_json::Map::values))
        .filter_map(Value::as_str)
        .filter(|helper| !helper.is_empty())
        .collect()
}

/// Finds the entry for `image`.
fn find(config: &Value, image: &ImageName) -> Result<Option<Credentials>, &'static str> {
    let Some(auths) = config.get("auths").and_then(Value::as_object) else {
        return Ok(None);
    };
    let entries = auths.iter().map(|(key, entry)| (key.as_str(), entry));
    match image.select_entry(entries) {
        Some((_, entry)) => read_entry(entry),
        None => Ok(None),
    }
}

fn read_entry(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
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

    fn lookup(config: &str, image: &str) -> Result<Option<(String, String)>, &'static str> {
        let config = serde_json::from_str(config).unwrap();
        let found = find(&config, &image.parse().unwrap())?;
        Ok(found.map(|found| (found.username, found.password)))
    }

    #[test]
    fn finds_entries_under_every_form_of_the_registry() {
        let bob = Some(("bob".to_owned(), "a:b".to_owned()));
        let auth = format!("{{\"auth\": \"{}\"}}", STANDARD.encode("bob:a:b"));
        for (key, image, found) in [
            ("ghcr.io", "ghcr.io/a", true),
            ("https://ghcr.io/v2/", "ghcr.io/a", true),
            ("ghcr.io/org1", "ghcr.io/org1/a:1", true),
            ("ghcr.io/org1", "ghcr.io/org2/a:1", false),
            ("127.0.0.1:5000", "127.0.0.1:5000/a", true),
            ("[::1]:5000", "[0::1]:5000/a", true),
            ("https://index.docker.io/v1/", "a", true),
            ("ghcr.io", "ghcr.io:443/a", false),
            ("evil-ghcr.io", "ghcr.io/a", false),
        ] {
            let config = format!("{{\"auths\": {{\"{key}\": {auth}}}}}");
            let expected = bob.clone().filter(|_| found);
            assert_eq!(lookup(&config, image), Ok(expected), "{key} {image}");
        }
        let plain = r#"{"auths": {"a.b": {"username": "bob", "password": "a:b"}, "c.d": {}}}"#;
        assert_eq!(lookup(plain, "a.b/c"), Ok(bob));
        assert_eq!(lookup(plain, "c.d/c"), Ok(None));
        assert_eq!(lookup("{}", "a.b/c"), Ok(None));
    }

    #[test]
    fn rejects_unsupported_entries_with_reason() {
        for text in [
            r#"{"auths": {"a.b": {"auth": "%%%"}}}"#,
            r#"{"auths": {"a.b": {"identitytoken": "t"}}}"#,
        ] {
            assert!(lookup(text, "a.b/c").is_err(), "{text}");
        }
    }

    #[test]
    fn names_each_credential_helper_once() {
        let config = serde_json::json!({
            "auths": { "ghcr.io": {} },
            "credsStore": "desktop",
            "credHelpers": { "a.example": "ecr-login", "b.example": "ecr-login", "c": "" },
        });
        assert!(helpers(&config).into_iter().eq(["desktop", "ecr-login"]));
        let logged = |config: &DockerConfig| config.logged.lock().unwrap().len();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let missing = DockerConfig::new(path.clone());
        assert_eq!(missing.credentials(&"ghcr.io/a".parse().unwrap()), None);
        assert_eq!(logged(&missing), 0, "a missing file is not an error");
        std::fs::write(&path, config.to_string()).unwrap();
        for _ in 0..2 {
            missing.log_helpers();
            assert_eq!(logged(&missing), 2);
        }
        std::fs::write(&path, "no json").unwrap();
        assert_eq!(missing.credentials(&"ghcr.io/a".parse().unwrap()), None);
        assert_eq!(logged(&missing), 3);
    }

    #[test]
    fn ignores_anything_but_a_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [pipe, directory.path().to_owned(), "/dev/zero".into()] {
            let config = DockerConfig::new(path);
            assert_eq!(config.credentials(&"ghcr.io/a".parse().unwrap()), None);
            assert_eq!(config.logged.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn prefers_docker_config_over_home() {
        let (a, b) = (Some(PathBuf::from("/a")), Some(PathBuf::from("/b")));
        assert_eq!(path(a, b.clone()), Some("/a/config.json".into()));
        assert_eq!(path(None, b), Some("/b/.docker/config.json".into()));
        assert_eq!(path(None, None), None);
    }
}
