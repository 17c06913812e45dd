//! `target.toml`: a target that is more than a command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{Access, Launch, READY_WITHIN, Running, Target};
use crate::check::pattern::suggestion;
use crate::spec::requirements::Profile;
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, WASM_LAYER};

/// An image larger than this is no fixture.
const MAX_IMAGE_BYTES: u64 = 256 * 1024 * 1024;

/// What `init` writes.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What is wrong with a target file.
#[derive(Debug, thiserror::Error)]
pub enum TargetFileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or a value is of the wrong kind.
    #[error("{path} is not a valid target file{suggestion}")]
    Parse {
        /// Which.
        path: String,
        /// The near spelling of an unknown key.
        suggestion: String,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is not one of those that there are.
    #[error("{path}: `{value}` is not a {kind}{suggestion}")]
    Unknown {
        /// Which file.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// What it is.
        value: String,
        /// The near spelling.
        suggestion: String,
    },
    /// Two sections that exclude each other, or none of them.
    #[error("{0}: give either [launch] or [running]")]
    Access(String),
    /// There is nothing to launch.
    #[error("{0}: `launch.command` is empty")]
    EmptyCommand(String),
    /// An image cannot be used.
    #[error("{path}: the image for `{role}` cannot be read from {file}")]
    Image {
        /// Which file.
        path: String,
        /// For which role.
        role: String,
        /// From where.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: TargetTable,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
    #[serde(default)]
    features: BTreeMap<String, bool>,
    #[serde(default)]
    images: BTreeMap<String, ImageTable>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    name: String,
    version: Option<String>,
    profiles: Option<Vec<String>>,
    #[serde(default)]
    only_own_images: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaunchTable {
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    ready_s: Option<u64>,
    stop_signal: Option<String>,
    http_addr: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunningTable {
    nats_url: String,
    host_id: String,
    http_addr: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageTable {
    file: PathBuf,
    media_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    jobs: Option<usize>,
    hosts: Option<usize>,
}

const KEYS: &[&str] = &[
    "target",
    "launch",
    "running",
    "features",
    "images",
    "limits",
    "name",
    "version",
    "profiles",
    "only_own_images",
    "command",
    "env",
    "ready_s",
    "stop_signal",
    "http_addr",
    "nats_url",
    "host_id",
    "file",
    "media_type",
    "jobs",
    "hosts",
];

/// Reads a target file. Paths in it are relative to its folder.
///
/// # Errors
/// It is not valid, or an image is missing.
pub fn load(path: &Path) -> Result<Target, TargetFileError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TargetFileError::Read {
        path: shown.clone(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|source| TargetFileError::Parse {
        suggestion: unknown_key(source.message()),
        path: shown.clone(),
        source: Box::new(source),
    })?;
    let access = access(&shown, file.launch, file.running)?;
    let mut target = Target::new(file.target.name, access);
    target.file = Some(path.to_path_buf());
    target.version = file.target.version;
    if let Some(names) = file.target.profiles {
        let profile = |name: String| profile(&shown, name);
        target.profiles = names.into_iter().map(profile).collect::<Result<_, _>>()?;
    }
    target.features = file.features;
    target.only_own_images = file.target.only_own_images;
    target.jobs_max = file.limits.jobs;
    target.hosts_max = file.limits.hosts;
    let folder = path.parent().unwrap_or(Path::new("."));
    for (name, image) in file.images {
        let role = role(&shown, &name)?;
        target
            .images
            .insert(role, artifact(&shown, folder, role, &image)?);
    }
    Ok(target)
}

/// serde says ``unknown field `comand`, expected ...``: the near spelling is easier to see.
fn unknown_key(message: &str) -> String {
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    unknown
        .map(|key| suggestion(key, KEYS.iter().copied()))
        .unwrap_or_default()
}

fn access(
    path: &str,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
) -> Result<Access, TargetFileError> {
    match (launch, running) {
        (Some(launch), None) if launch.command.is_empty() => {
            Err(TargetFileError::EmptyCommand(path.to_owned()))
        }
        (Some(table), None) => {
            let stop_signal = match &table.stop_signal {
                None => Signal::SIGTERM,
                Some(name) => name
                    .parse()
                    .map_err(|_| unknown(path, "signal", name, &["SIGTERM", "SIGINT"]))?,
            };
            Ok(Access::Launch(Launch {
                env: table.env,
                ready_within: table.ready_s.map_or(READY_WITHIN, Duration::from_secs),
                stop_signal,
                http_addr: table.http_addr,
                ..Launch::new(table.command)
            }))
        }
        (None, Some(table)) => Ok(Access::Running(Running {
            nats_url: table.nats_url,
            host_id: table.host_id,
            http_addr: table.http_addr,
        })),
        _ => Err(TargetFileError::Access(path.to_owned())),
    }
}

fn profile(path: &str, name: String) -> Result<Profile, TargetFileError> {
    let names: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name()).collect();
    let found = Profile::ALL
        .into_iter()
        .find(|profile| profile.name() == name);
    found.ok_or_else(|| unknown(path, "profile", &name, &names))
}

fn role(path: &str, name: &str) -> Result<Role, TargetFileError> {
    let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
    Role::named(name).ok_or_else(|| unknown(path, "role", name, &names))
}

fn unknown(path: &str, kind: &'static str, value: &str, known: &[&str]) -> TargetFileError {
    TargetFileError::Unknown {
        path: path.to_owned(),
        kind,
        value: value.to_owned(),
        suggestion: suggestion(value, known.iter().copied()),
    }
}

fn artifact(
    path: &str,
    folder: &Path,
    role: Role,
    image: &ImageTable,
) -> Result<Artifact, TargetFileError> {
    let file = folder.join(&image.file);
    let failed = |source| TargetFileError::Image {
        path: path.to_owned(),
        role: role.to_string(),
        file: file.display().to_string(),
        source,
    };
    let size = std::fs::metadata(&file).map_err(failed)?.len();
    if size > MAX_IMAGE_BYTES {
        return Err(failed(std::io::Error::other("it is larger than 256 MiB")));
    }
    let bytes = std::fs::read(&file).map_err(failed)?;
    let media_type = image.media_type.as_deref().unwrap_or(WASM_LAYER);
    Ok(Artifact::wasm(bytes).with_layer_media_type(media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Target, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hello.bin"), b"own").unwrap();
        let path = dir.path().join("target.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|bad| crate::check::outcome::chain(&bad))
    }

    #[test]
    fn the_example_is_valid() {
        let target = read(EXAMPLE).unwrap();
        assert_eq!(target.name, "my-host");
        assert!(target.launch().unwrap().uses("nats_url"));
    }

    #[test]
    fn own_images_are_read_with_their_media_type() {
        let text = "[target]\nname = \"a\"\nonly_own_images = true\n[launch]\ncommand = [\"x\"]\n\
                    [images.hello]\nfile = \"hello.bin\"\nmedia_type = \"application/x-own\"\n";
        let target = read(text).unwrap();
        let hello = &target.images[&Role::Hello];
        assert_eq!(hello.layer_media_type, "application/x-own");
        assert_eq!(&hello.bytes[..], b"own");
    }

    #[test]
    fn mistakes_are_named_with_the_near_spelling() {
        for (text, expected) in [
            (
                "[target]\nname = \"a\"\n[launch]\ncomand = [\"x\"]",
                "did you mean `command`",
            ),
            (
                "[target]\nname = \"a\"\nprofiles = [\"cor\"]\n[launch]\ncommand = [\"x\"]",
                "did you mean `core`",
            ),
            ("[target]\nname = \"a\"\n[launch]\ncommand = []", "is empty"),
            ("[target]\nname = \"a\"", "either [launch] or [running]"),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n[images.helo]\nfile = \"f\"",
                "did you mean `hello`",
            ),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n[images.hello]\nfile = \"f\"",
                "cannot be read",
            ),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\nstop_signal = \"SIGTER\"",
                "did you mean `SIGTERM`",
            ),
            ("not toml", "not a valid target file"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }
}
