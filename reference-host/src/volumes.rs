//! The volumes of a workload: directories on the host, mounted into its components.

mod host_path;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use berth_proto::{Volume, VolumeMount, volume::VolumeType};

pub use self::host_path::HostPathRefusal;
use crate::fault_injection::Breakage;
use crate::owned_directory::OwnedDirectory;
use crate::remove_tree::remove_tree;

/// Prefix of the names of the directories that contain the `emptyDir` volumes of one process, in
/// the directory for temporary files.
pub const TEMPORARY_PREFIX: &str = "berth-host-volumes-";

/// The volumes of one workload. Dropping them removes the `emptyDir` volumes and their content.
#[derive(Debug, Default)]
pub struct Volumes {
    by_name: HashMap<String, Directory>,
    allowed_host_paths: Arc<[PathBuf]>,
}

/// A directory of the host that is mounted into a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the guest.
    pub guest_path: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// Reason why the volumes of a workload cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume has no name.
    #[error("a volume has no name")]
    Nameless,
    /// Two volumes have the same name.
    #[error("two volumes have the name `{0}`")]
    Duplicate(String),
    /// A `hostPath` is not a directory (HOST-RES-011).
    #[error("hostPath `{path}` of volume `{name}` is not a directory")]
    NotADirectory {
        /// Name of the volume.
        name: String,
        /// Path as written in the workload.
        path: String,
    },
    /// This host does not permit the `hostPath`.
    #[error("cannot mount hostPath `{path}` of volume `{name}`")]
    HostPath {
        /// Name of the volume.
        name: String,
        /// Path as written in the workload.
        path: String,
        /// Reason.
        #[source]
        source: HostPathRefusal,
    },
    /// A mount refers to a volume that the workload does not have (HOST-RES-012).
    #[error("the workload has no volume `{0}` for its volumeMount")]
    UnknownVolume(String),
    /// The path in the guest is empty or relative.
    #[error("mountPath `{path}` of volumeMount `{name}` is not absolute")]
    MountPath {
        /// Name of the volume.
        name: String,
        /// Path as written in the workload.
        path: String,
    },
    /// A temporary directory cannot be created.
    #[error("cannot create a directory for volume `{name}`")]
    EmptyDir {
        /// Name of the volume.
        name: String,
        /// I/O error.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug)]
enum Directory {
    Empty(Arc<EmptyDir>),
    Existing {
        /// Path as written in the workload.
        written: String,
        /// Path without symbolic links.
        real: PathBuf,
    },
}

/// The directory of an `emptyDir` volume. Dropping it removes it with its content.
#[derive(Debug)]
struct EmptyDir {
    path: PathBuf,
    /// Contains the directory, and is removed with the last volume of the process.
    _parent: Arc<OwnedDirectory>,
}

impl Drop for EmptyDir {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a volume");
        }
    }
}

impl EmptyDir {
    fn create() -> io::Result<Self> {
        let parent = parent_of_volumes()?;
        let directory = tempfile::Builder::new()
            .prefix("volume-")
            .tempdir_in(parent.path())?;
        Ok(Self {
            path: directory.keep(),
            _parent: parent,
        })
    }
}

static PARENT_OF_VOLUMES: Mutex<Weak<OwnedDirectory>> = Mutex::new(Weak::new());

/// Returns the directory that contains the volumes of this process.
fn parent_of_volumes() -> io::Result<Arc<OwnedDirectory>> {
    let mut parent = PARENT_OF_VOLUMES
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(parent) = parent.upgrade() {
        return Ok(parent);
    }
    let directory = OwnedDirectory::create(&std::env::temp_dir(), TEMPORARY_PREFIX)?;
    let directory = Arc::new(directory);
    *parent = Arc::downgrade(&directory);
    Ok(directory)
}

impl Volumes {
    /// Creates the `emptyDir` volumes and checks that the `hostPath` volumes exist. A volume
    /// without a type is an `emptyDir`. If `allowed_host_paths` is empty, host paths are permitted
    /// except for those of the system. Does blocking I/O.
    pub fn create(
        volumes: &[Volume],
        allowed_host_paths: Arc<[PathBuf]>,
    ) -> Result<Self, VolumeError> {
        let mut by_name = HashMap::new();
        for volume in volumes {
            let name = volume.name.clone();
            if name.is_empty() {
                return Err(VolumeError::Nameless);
            }
            let directory = match &volume.volume_type {
                Some(VolumeType::HostPath(host)) => existing(&name, &host.local_path)?,
                Some(VolumeType::EmptyDir(_)) | None => empty(&name)?,
            };
            if by_name.insert(name.clone(), directory).is_some() {
                return Err(VolumeError::Duplicate(name));
            }
        }
        Ok(Self {
            by_name,
            allowed_host_paths,
        })
    }

    /// Resolves the mounts of a component to directories.
    pub fn mounts(&self, mounts: &[VolumeMount]) -> Result<Vec<Mount>, VolumeError> {
        let mut resolved = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let Some(directory) = self.by_name.get(&mount.name) else {
                if Breakage::DropsUnknownMount.is_on() {
                    continue;
                }
                return Err(VolumeError::UnknownVolume(mount.name.clone()));
            };
            if !mount.mount_path.starts_with('/') {
                let (name, path) = (mount.name.clone(), mount.mount_path.clone());
                return Err(VolumeError::MountPath { name, path });
            }
            if let Directory::Existing { written, real } = directory {
                host_path::check(real, mount.read_only, &self.allowed_host_paths).map_err(
                    |source| VolumeError::HostPath {
                        name: mount.name.clone(),
                        path: written.clone(),
                        source,
                    },
                )?;
            }
            resolved.push(Mount {
                host_path: directory.path().to_owned(),
                guest_path: mount.mount_path.clone(),
                read_only: mount.read_only && !Breakage::WritableReadOnly.is_on(),
            });
        }
        Ok(resolved)
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Empty(directory) => &directory.path,
            Self::Existing { real, .. } => real,
        }
    }
}

fn existing(name: &str, path: &str) -> Result<Directory, VolumeError> {
    let written = Path::new(path);
    if written.is_absolute()
        && written.is_dir()
        && let Ok(real) = written.canonicalize()
    {
        return Ok(Directory::Existing {
            written: path.to_owned(),
            real,
        });
    }
    if Breakage::AcceptsMissingHostPath.is_on() {
        return empty(name);
    }
    Err(VolumeError::NotADirectory {
        name: name.to_owned(),
        path: path.to_owned(),
    })
}

fn empty(name: &str) -> Result<Directory, VolumeError> {
    if Breakage::SharedEmptyDir.is_on() {
        return injected_shared_directory();
    }
    EmptyDir::create()
        .map(|directory| Directory::Empty(Arc::new(directory)))
        .map_err(|source| VolumeError::EmptyDir {
            name: name.to_owned(),
            source,
        })
}

/// Injected fault: returns one directory for all workloads, which HOST-RES-014 forbids.
fn injected_shared_directory() -> Result<Directory, VolumeError> {
    static SHARED: Mutex<Option<Arc<EmptyDir>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = shared.as_ref() {
        return Ok(Directory::Empty(directory.clone()));
    }
    let directory = EmptyDir::create().map_err(|source| VolumeError::EmptyDir {
        name: "shared".into(),
        source,
    })?;
    Ok(Directory::Empty(shared.insert(Arc::new(directory)).clone()))
}

#[cfg(test)]
mod tests {
    use berth_proto::{EmptyDirVolume, HostPathVolume};

    use super::*;

    fn empty_dir(name: &str) -> Volume {
        let volume_type = Some(VolumeType::EmptyDir(EmptyDirVolume {}));
        Volume {
            name: name.into(),
            volume_type,
        }
    }

    fn host_path(name: &str, path: &str) -> Volume {
        let volume_type = Some(VolumeType::HostPath(HostPathVolume {
            local_path: path.into(),
        }));
        Volume {
            name: name.into(),
            volume_type,
        }
    }

    fn mount(name: &str, path: &str) -> VolumeMount {
        VolumeMount {
            name: name.into(),
            mount_path: path.into(),
            read_only: false,
        }
    }

    fn create(volumes: &[Volume]) -> Result<Volumes, VolumeError> {
        Volumes::create(volumes, Arc::default())
    }

    #[test]
    fn removes_empty_dirs_with_their_workload() {
        let volumes = create(&[empty_dir("scratch")]).unwrap();
        let mounts = volumes.mounts(&[mount("scratch", "/tmp")]).unwrap();
        let path = mounts[0].host_path.clone();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(volumes);
        assert!(!path.exists());
    }

    #[test]
    fn empty_dirs_are_private() {
        let volumes = [create(&[empty_dir("a")]), create(&[empty_dir("a")])];
        let paths = volumes
            .iter()
            .map(|volumes| {
                volumes
                    .as_ref()
                    .unwrap()
                    .mounts(&[mount("a", "/a")])
                    .unwrap()
            })
            .collect::<Vec<_>>();
        assert_ne!(paths[0][0].host_path, paths[1][0].host_path);
    }

    #[test]
    fn host_path_must_be_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(create(&[host_path("a", directory.path().to_str().unwrap())]).is_ok());
        for path in ["/nonexistent", file.to_str().unwrap(), "", "."] {
            let error = create(&[host_path("a", path)]).unwrap_err();
            assert!(
                matches!(error, VolumeError::NotADirectory { .. }),
                "{path}: {error}"
            );
        }
    }

    #[test]
    fn system_directories_need_permission() {
        let root = create(&[host_path("root", "/")]).unwrap();
        let error = root.mounts(&[mount("root", "/data")]).unwrap_err();
        assert!(matches!(error, VolumeError::HostPath { .. }), "{error}");
        let allowed: Arc<[PathBuf]> = Arc::new(["/".into()]);
        let root = Volumes::create(&[host_path("root", "/")], allowed).unwrap();
        assert_eq!(root.mounts(&[mount("root", "/data")]).unwrap().len(), 1);
    }

    #[test]
    fn volumes_of_other_workloads_cannot_be_mounted() {
        let private = create(&[empty_dir("a")]).unwrap();
        let path = private.mounts(&[mount("a", "/a")]).unwrap()[0]
            .host_path
            .clone();
        for path in [&path, path.parent().unwrap(), &std::env::temp_dir()] {
            let theirs = create(&[host_path("b", path.to_str().unwrap())]).unwrap();
            let error = theirs.mounts(&[mount("b", "/b")]).unwrap_err();
            assert!(matches!(error, VolumeError::HostPath { .. }), "{error}");
        }
    }

    #[test]
    fn rejects_invalid_mounts_and_duplicate_volumes() {
        let volumes = create(&[empty_dir("a")]).unwrap();
        assert!(matches!(
            volumes.mounts(&[mount("b", "/b")]),
            Err(VolumeError::UnknownVolume(name)) if name == "b"
        ));
        assert!(matches!(
            volumes.mounts(&[mount("a", "a")]),
            Err(VolumeError::MountPath { .. })
        ));
        assert!(matches!(
            create(&[empty_dir("a"), empty_dir("a")]),
            Err(VolumeError::Duplicate(_))
        ));
    }
}
