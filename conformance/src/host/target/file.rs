//! Target file, `target.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Access, ExistingHost, Launch, READY_TIMEOUT, Target};
use crate::check::side::Side;
use crate::check::target_file::{TargetFile, TargetFileError};
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, WASM_LAYER};

/// Maximum size of an image file.
const MAX_IMAGE_BYTES: u64 = 256 * 1024 * 1024;

/// Example that `init` writes.
pub const EXAMPLE: &str = include_str!("example.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    target: TargetTable,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
    /// Optional features that the host has (`true`) or lacks (`false`).
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
    /// Whether the host can run only the images of `images`, and not the components of the suite.
    #[serde(default)]
    only_own_images: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaunchTable {
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Maximum time until the first heartbeat, in seconds.
    #[serde(rename = "ready_s")]
    ready_within_s: Option<u64>,
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

/// Keys of all tables, for the suggestion after an unknown key.
const KNOWN_KEYS: &[&str] = &[
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

/// Loads a target file. Paths in the file are relative to its directory.
///
/// # Errors
/// Fails if the file is invalid or an image cannot be read.
pub fn load(path: &Path) -> Result<Target, TargetFileError> {
    let target_file = TargetFile {
        path,
        side: Side::Host,
    };
    let file: File = target_file.parse(KNOWN_KEYS)?;
    let access = access(target_file, file.launch, file.running)?;
    let mut target = Target::new(file.target.name, access);
    target.file = Some(path.to_path_buf());
    target.version = file.target.version;
    if let Some(names) = file.target.profiles {
        target.profiles = target_file.profiles(&names)?;
    }
    target.features = file.features;
    target.only_own_images = file.target.only_own_images;
    target.max_jobs = file.limits.jobs;
    target.max_hosts = file.limits.hosts;
    for (name, image) in file.images {
        let role = role(target_file, &name)?;
        let artifact = artifact(target_file, role, &image)?;
        target.images.insert(role, artifact);
    }
    Ok(target)
}

fn access(
    target_file: TargetFile<'_>,
    launch: Option<LaunchTable>,
    running: Option<RunningTable>,
) -> Result<Access, TargetFileError> {
    match (launch, running) {
        (Some(launch), None) if launch.command.is_empty() => {
            Err(TargetFileError::EmptyCommand(target_file.display_path()))
        }
        (Some(table), None) => Ok(Access::Launch(Launch {
            env: table.env,
            ready_timeout: table
                .ready_within_s
                .map_or(READY_TIMEOUT, Duration::from_secs),
            stop_signal: target_file.stop_signal(table.stop_signal.as_deref())?,
            http_addr: table.http_addr,
            ..Launch::new(table.command)
        })),
        (None, Some(table)) => Ok(Access::Running(ExistingHost {
            nats_url: table.nats_url,
            host_id: table.host_id,
            http_addr: table.http_addr,
        })),
        _ => Err(TargetFileError::Access(target_file.display_path())),
    }
}

fn role(target_file: TargetFile<'_>, name: &str) -> Result<Role, TargetFileError> {
    Role::named(name).ok_or_else(|| {
        let known = Role::ALL.iter().map(|role| role.name());
        target_file.unknown("role", name, known)
    })
}

fn artifact(
    target_file: TargetFile<'_>,
    role: Role,
    image: &ImageTable,
) -> Result<Artifact, TargetFileError> {
    let directory = target_file.path.parent().unwrap_or(Path::new("."));
    let file = directory.join(&image.file);
    let failed = |source| TargetFileError::Image {
        path: target_file.display_path(),
        role: role.to_string(),
        file: file.display().to_string(),
        source,
    };
    let size = std::fs::metadata(&file).map_err(failed)?.len();
    if size > MAX_IMAGE_BYTES {
        return Err(failed(std::io::Error::other(
            "the file is larger than 256 MiB",
        )));
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
        load(&path).map_err(|error| crate::check::outcome::error_chain(&error))
    }

    #[test]
    fn page_lists_every_key() {
        let page = include_str!("../../../../docs/conformance/target.md");
        for key in KNOWN_KEYS {
            let is_listed = page.contains(&format!(".{key}")) || page.contains(&format!("`{key}."));
            assert!(
                is_listed,
                "docs/conformance/target.md lacks the key `{key}`"
            );
        }
    }

    #[test]
    fn example_is_valid() {
        let target = read(EXAMPLE).unwrap();
        assert_eq!(target.name, "my-host");
        assert!(target.launch().unwrap().uses_placeholder("nats_url"));
    }

    #[test]
    fn reads_own_images_with_media_type() {
        let text = "[target]\nname = \"a\"\nonly_own_images = true\n[launch]\ncommand = [\"x\"]\n\
                    [images.hello]\nfile = \"hello.bin\"\nmedia_type = \"application/x-own\"\n";
        let target = read(text).unwrap();
        let hello = &target.images[&Role::Hello];
        assert_eq!(hello.layer_media_type, "application/x-own");
        assert_eq!(&hello.bytes[..], b"own");
    }

    #[test]
    fn error_describes_mistake_and_suggests_similar_key() {
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
            (
                "[target]\nname = \"a\"",
                "exactly one of [launch] and [running]",
            ),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n[images.helo]\nfile = \"f\"",
                "did you mean `hello`",
            ),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\n[images.hello]\nfile = \"f\"",
                "cannot read the image for role `hello`",
            ),
            (
                "[target]\nname = \"a\"\n[launch]\ncommand = [\"x\"]\nstop_signal = \"SIGTER\"",
                "did you mean `SIGTERM`",
            ),
            ("not toml", "invalid host target file"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }
}
