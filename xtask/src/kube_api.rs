//! Obtains what a real Kubernetes API server takes: the programs that are there, or pinned releases built once
//! with Go.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::go_module::{GoModule, GoModuleError, Program};

/// The variable that names the folder; tests read it, too. Other projects know it for the same purpose.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What the folder holds.
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
        takes: "half a minute",
    },
    GoModule {
        name: "helm",
        pins: "helm.sh/helm/v3",
        programs: &[Program {
            name: "helm",
            package: "helm.sh/helm/v3/cmd/helm",
        }],
        version_variables: &["helm.sh/helm/v3/internal/version.version"],
        takes: "a minute or two",
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
        takes: "some five minutes, and 4 GB until it is done",
    },
];

/// A folder with all of [`PROGRAMS`]. Each is taken from its own variable (`TEST_ASSET_ETCD`,
/// `TEST_ASSET_KUBE_APISERVER` and so on), else from the folder in `KUBEBUILDER_ASSETS` when it is there, else
/// from the cache, into which it is built when it is missing. Says what it does when that takes time.
///
/// # Errors
///
/// When a variable names what is not there, or a program cannot be built.
pub fn obtain(root: &Path) -> Result<PathBuf, KubeApiError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let given = Given::of_variables(&variable)?;
    if let Some(dir) = given.complete() {
        return Ok(dir);
    }
    let mut programs = Vec::new();
    for module in MODULES {
        let names = module.programs.iter().map(|program| program.name);
        if names.clone().all(|name| given.program(name).is_some()) {
            programs.extend(names.filter_map(|name| Some((name, given.program(name)?))));
            continue;
        }
        let built = module.obtain(root)?;
        programs.extend(names.map(|name| {
            let program = given.program(name).unwrap_or_else(|| built.join(name));
            (name, program)
        }));
    }
    let cache = cache::dir().map_err(GoModuleError::Cache)?;
    folder_of_links(&cache, &programs)
}

/// What the variables name.
#[derive(Default)]
struct Given {
    dir: Option<PathBuf>,
    single: Vec<(&'static str, PathBuf)>,
}

impl Given {
    fn of_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, KubeApiError> {
        let dir = variable(VARIABLE).map(PathBuf::from);
        if let Some(path) = dir.clone().filter(|dir| !dir.is_dir()) {
            let name = VARIABLE.to_owned();
            return Err(KubeApiError::Named { name, path });
        }
        let mut single = Vec::new();
        for program in PROGRAMS {
            let name = format!("TEST_ASSET_{}", program.replace('-', "_").to_uppercase());
            let Some(path) = variable(&name).map(PathBuf::from) else {
                continue;
            };
            if !path.is_file() {
                return Err(KubeApiError::Named { name, path });
            }
            single.push((program, path));
        }
        Ok(Self { dir, single })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let single = self.single.iter().find(|(program, _)| *program == name);
        let in_dir = || Some(self.dir.as_ref()?.join(name)).filter(|path| path.is_file());
        single.map(|(_, path)| path.clone()).or_else(in_dir)
    }

    /// The folder, if nothing has to be added to it.
    fn complete(&self) -> Option<PathBuf> {
        let dir = self.dir.clone().filter(|_| self.single.is_empty())?;
        let all = PROGRAMS.iter().all(|name| dir.join(name).is_file());
        all.then_some(dir)
    }
}

/// One folder for each set of programs, made beside its place and renamed.
fn folder_of_links(
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
    let failed = |source| KubeApiError::Links {
        path: dir.clone(),
        source,
    };
    std::fs::create_dir_all(cache).map_err(failed)?;
    let work = tempfile::tempdir_in(cache).map_err(failed)?;
    for (name, program) in programs {
        let program = std::path::absolute(program).map_err(failed)?;
        std::os::unix::fs::symlink(program, work.path().join(name)).map_err(failed)?;
    }
    if dir.exists() && !is_complete() {
        // A link points at what has been deleted since.
        std::fs::remove_dir_all(&dir).map_err(failed)?;
    }
    match std::fs::rename(work.path(), &dir) {
        Ok(()) => {
            // The folder is not where the guard would remove it.
            let _ = work.keep();
            Ok(dir)
        }
        // Someone else was faster.
        Err(_) if is_complete() => Ok(dir),
        Err(source) => Err(failed(source)),
    }
}

/// Why there is no API server to test with.
#[derive(Debug, thiserror::Error)]
pub enum KubeApiError {
    /// A variable names nothing.
    #[error("{name} names {}, which is not there", path.display())]
    Named {
        /// The variable.
        name: String,
        /// What it names.
        path: PathBuf,
    },
    /// A program cannot be built.
    #[error(
        "a program of the Kubernetes API server is not there and cannot be built; {VARIABLE} may name a folder of them"
    )]
    Build(#[from] GoModuleError),
    /// The programs cannot be gathered.
    #[error("{} cannot be filled with links to the programs", path.display())]
    Links {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &Path)]) -> Result<Given, KubeApiError> {
        Given::of_variables(&|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, path)| path.as_os_str().to_owned())
        })
    }

    #[test]
    fn a_complete_folder_is_taken_as_it_is_and_a_program_of_its_own_variable_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let whole = given(&[(VARIABLE, dir.path())]).unwrap();
        assert_eq!(whole.complete().as_deref(), Some(dir.path()));

        let other = dir.path().join("other");
        std::fs::write(&other, "").unwrap();
        let mixed = given(&[
            (VARIABLE, dir.path()),
            ("TEST_ASSET_KUBE_APISERVER", &other),
        ]);
        let mixed = mixed.unwrap();
        assert_eq!(mixed.complete(), None);
        assert_eq!(mixed.program("kube-apiserver"), Some(other));
        assert_eq!(mixed.program("etcd"), Some(dir.path().join("etcd")));
    }

    #[test]
    fn what_is_named_and_missing_is_an_error_and_what_is_not_named_is_built() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(given(&[(VARIABLE, &missing)]).is_err());
        assert!(given(&[("TEST_ASSET_HELM", &missing)]).is_err());
        let empty = given(&[(VARIABLE, dir.path())]).unwrap();
        assert_eq!((empty.complete(), empty.program("etcd")), (None, None));
        let built: Vec<&str> = MODULES
            .iter()
            .flat_map(|module| module.programs.iter().map(|program| program.name))
            .collect();
        assert!(PROGRAMS.iter().all(|name| built.contains(name)));
    }

    #[test]
    fn the_folder_of_links_is_made_once_and_again_when_a_link_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let programs = PROGRAMS.map(|name| (name, dir.path().join(format!("my-{name}"))));
        for (_, path) in &programs {
            std::fs::write(path, "").unwrap();
        }
        let cache = dir.path().join("cache");
        let links = folder_of_links(&cache, &programs).unwrap();
        assert_eq!(
            std::fs::read_link(links.join("etcd")).unwrap(),
            dir.path().join("my-etcd")
        );
        std::fs::remove_file(links.join("helm")).unwrap();
        assert_eq!(folder_of_links(&cache, &programs).unwrap(), links);
        assert!(links.join("helm").is_file());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }
}
