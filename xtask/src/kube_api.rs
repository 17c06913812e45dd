//! Provides the programs of a real Kubernetes API server: installed ones, or pinned releases that
//! are built once with Go.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::go_module::{GoModule, GoModuleError, Program};

/// Environment variable with the directory of the programs. Tests read it too, and other projects
/// use it in the same way.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// Programs in the directory.
pub const PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
    "etcd",
    "helm",
];

const MODULES: [GoModule; 3] = [
    GoModule {
        name: "etcd",
        pins: "go.etcd.io/etcd/server/v3",
        programs: &[Program {
            name: "etcd",
            package: "go.etcd.io/etcd/server/v3",
        }],
        version_variables: &[],
        build_time: "half a minute",
    },
    GoModule {
        name: "helm",
        pins: "helm.sh/helm/v3",
        programs: &[Program {
            name: "helm",
            package: "helm.sh/helm/v3/cmd/helm",
        }],
        version_variables: &["helm.sh/helm/v3/internal/version.version"],
        build_time: "a minute or two",
    },
    GoModule {
        name: "kubernetes",
        pins: "k8s.io/kubernetes",
        programs: &[
            Program {
                name: "kube-apiserver",
                package: "k8s.io/kubernetes/cmd/kube-apiserver",
            },
            Program {
                name: "kube-controller-manager",
                package: "k8s.io/kubernetes/cmd/kube-controller-manager",
            },
            Program {
                name: "kubectl",
                package: "k8s.io/kubernetes/cmd/kubectl",
            },
        ],
        version_variables: &["k8s.io/component-base/version.gitVersion"],
        build_time: "about five minutes, and 4 GB of temporary files",
    },
];

/// Returns a directory with all [`PROGRAMS`]. Each comes from its own variable (`TEST_ASSET_ETCD`,
/// `TEST_ASSET_KUBE_APISERVER` and so on), else from the directory in `KUBEBUILDER_ASSETS`, else
/// from the cache. Builds missing programs into the cache, and reports that on stderr.
///
/// # Errors
///
/// When a variable names a path that does not exist, or a program cannot be built.
pub fn obtain(root: &Path) -> Result<PathBuf, KubeApiError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let configured = Configured::from_variables(&variable)?;
    if let Some(dir) = configured.complete_dir() {
        return Ok(dir);
    }
    let mut programs = Vec::new();
    for module in MODULES {
        let names = module.programs.iter().map(|program| program.name);
        if names.clone().all(|name| configured.program(name).is_some()) {
            programs.extend(names.filter_map(|name| Some((name, configured.program(name)?))));
            continue;
        }
        let built = module.obtain(root)?;
        programs.extend(names.map(|name| {
            let program = configured.program(name).unwrap_or_else(|| built.join(name));
            (name, program)
        }));
    }
    let cache = cache::dir().map_err(GoModuleError::Cache)?;
    link_directory(&cache, &programs)
}

/// The programs that environment variables name.
#[derive(Default)]
struct Configured {
    dir: Option<PathBuf>,
    programs: Vec<(&'static str, PathBuf)>,
}

impl Configured {
    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, KubeApiError> {
        let dir = variable(VARIABLE).map(PathBuf::from);
        if let Some(path) = dir.clone().filter(|dir| !dir.is_dir()) {
            let name = VARIABLE.to_owned();
            return Err(KubeApiError::MissingPath { name, path });
        }
        let mut programs = Vec::new();
        for program in PROGRAMS {
            let name = format!("TEST_ASSET_{}", program.replace('-', "_").to_uppercase());
            let Some(path) = variable(&name).map(PathBuf::from) else {
                continue;
            };
            if !path.is_file() {
                return Err(KubeApiError::MissingPath { name, path });
            }
            programs.push((program, path));
        }
        Ok(Self { dir, programs })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let own = self.programs.iter().find(|(program, _)| *program == name);
        let in_dir = || Some(self.dir.as_ref()?.join(name)).filter(|path| path.is_file());
        own.map(|(_, path)| path.clone()).or_else(in_dir)
    }

    /// Returns the configured directory, if it contains all programs and no variable overrides one.
    fn complete_dir(&self) -> Option<PathBuf> {
        let dir = self.dir.clone().filter(|_| self.programs.is_empty())?;
        let all = PROGRAMS.iter().all(|name| dir.join(name).is_file());
        all.then_some(dir)
    }
}

/// Returns a directory with links to `programs`. Creates it under a temporary name and renames it.
fn link_directory(
    cache: &Path,
    programs: &[(&'static str, PathBuf)],
) -> Result<PathBuf, KubeApiError> {
    let mut hasher = DefaultHasher::new();
    programs.hash(&mut hasher);
    let dir = cache.join(format!("kube-api-{:016x}", hasher.finish()));
    let is_complete = || PROGRAMS.iter().all(|name| dir.join(name).is_file());
    if is_complete() {
        return Ok(dir);
    }
    let link_error = |source| KubeApiError::Links {
        path: dir.clone(),
        source,
    };
    std::fs::create_dir_all(cache).map_err(link_error)?;
    let work = tempfile::tempdir_in(cache).map_err(link_error)?;
    for (name, program) in programs {
        let program = std::path::absolute(program).map_err(link_error)?;
        std::os::unix::fs::symlink(program, work.path().join(name)).map_err(link_error)?;
    }
    if dir.exists() && !is_complete() {
        // A link target has been deleted.
        std::fs::remove_dir_all(&dir).map_err(link_error)?;
    }
    match std::fs::rename(work.path(), &dir) {
        Ok(()) => {
            // Prevents the guard from removing the old path.
            let _ = work.keep();
            Ok(dir)
        }
        // Another process was faster.
        Err(_) if is_complete() => Ok(dir),
        Err(source) => Err(link_error(source)),
    }
}

/// Reason why the API server is not available.
#[derive(Debug, thiserror::Error)]
pub enum KubeApiError {
    /// A variable names a path that does not exist.
    #[error("{name} names {}, which does not exist", path.display())]
    MissingPath {
        /// Name of the variable.
        name: String,
        /// The missing path.
        path: PathBuf,
    },
    /// A program cannot be built.
    #[error(
        "cannot build a program of the Kubernetes API server; \
         set {VARIABLE} to a directory that contains the programs"
    )]
    Build(#[from] GoModuleError),
    /// The links to the programs cannot be created.
    #[error("cannot create links to the programs in {}", path.display())]
    Links {
        /// Path of the directory.
        path: PathBuf,
        /// I/O error.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(variables: &[(&str, &Path)]) -> Result<Configured, KubeApiError> {
        Configured::from_variables(&|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, path)| path.as_os_str().to_owned())
        })
    }

    #[test]
    fn uses_complete_directory_but_prefers_variables_of_single_programs() {
        let dir = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let complete = configured(&[(VARIABLE, dir.path())]).unwrap();
        assert_eq!(complete.complete_dir().as_deref(), Some(dir.path()));

        let other = dir.path().join("other");
        std::fs::write(&other, "").unwrap();
        let mixed = configured(&[
            (VARIABLE, dir.path()),
            ("TEST_ASSET_KUBE_APISERVER", &other),
        ]);
        let mixed = mixed.unwrap();
        assert_eq!(mixed.complete_dir(), None);
        assert_eq!(mixed.program("kube-apiserver"), Some(other));
        assert_eq!(mixed.program("etcd"), Some(dir.path().join("etcd")));
    }

    #[test]
    fn missing_path_is_an_error_and_unset_program_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(configured(&[(VARIABLE, &missing)]).is_err());
        assert!(configured(&[("TEST_ASSET_HELM", &missing)]).is_err());
        let empty = configured(&[(VARIABLE, dir.path())]).unwrap();
        assert_eq!((empty.complete_dir(), empty.program("etcd")), (None, None));
        let built: Vec<&str> = MODULES
            .iter()
            .flat_map(|module| module.programs.iter().map(|program| program.name))
            .collect();
        assert!(PROGRAMS.iter().all(|name| built.contains(name)));
    }

    #[test]
    fn link_directory_is_reused_until_a_link_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let programs = PROGRAMS.map(|name| (name, dir.path().join(format!("my-{name}"))));
        for (_, path) in &programs {
            std::fs::write(path, "").unwrap();
        }
        let cache = dir.path().join("cache");
        let links = link_directory(&cache, &programs).unwrap();
        assert_eq!(
            std::fs::read_link(links.join("etcd")).unwrap(),
            dir.path().join("my-etcd")
        );
        std::fs::remove_file(links.join("helm")).unwrap();
        assert_eq!(link_directory(&cache, &programs).unwrap(), links);
        assert!(links.join("helm").is_file());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }
}
