//! Programs of pinned Go modules, built once into the cache.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::cache;

/// A module in `xtask/tools/`, which pins the release of another module and builds programs of it.
#[derive(Debug)]
pub struct GoModule {
    /// Name of its directory in `xtask/tools/`, and prefix of its directory in the cache.
    pub name: &'static str,
    /// Path of the pinned Go module.
    pub pins: &'static str,
    /// Programs to build.
    pub programs: &'static [Program],
    /// Go variables that are set to the pinned version, as in official releases.
    pub version_variables: &'static [&'static str],
    /// Duration of the build, for the message.
    pub build_time: &'static str,
}

/// One program of a module.
#[derive(Debug)]
pub struct Program {
    /// File name.
    pub name: &'static str,
    /// Go package.
    pub package: &'static str,
}

impl GoModule {
    /// Returns the directory with all programs. Builds missing programs at low priority and without
    /// cgo, and reports that on stderr. If several processes call it, one builds and the others
    /// wait.
    ///
    /// # Errors
    ///
    /// When a program is missing and cannot be built.
    pub fn obtain(&self, root: &Path) -> Result<PathBuf, GoModuleError> {
        let module = root.join("xtask/tools").join(self.name);
        let version = self.pinned_version(&module)?;
        let cache = cache::dir()?;
        let dir = cache.join(format!("{}-{version}", self.name));
        if self.is_complete(&dir) {
            return Ok(dir);
        }
        std::fs::create_dir_all(&dir).map_err(|source| GoModuleError::file(&dir, source))?;
        let _lock = self.lock(&cache.join(format!("{}-{version}.lock", self.name)))?;
        if !self.is_complete(&dir) {
            eprintln!(
                "{}: building {version} with Go into {} (once; takes {})",
                self.name,
                dir.display(),
                self.build_time
            );
            self.build(&module, &version, &dir)?;
        }
        Ok(dir)
    }

    fn is_complete(&self, dir: &Path) -> bool {
        self.programs
            .iter()
            .all(|program| dir.join(program.name).is_file())
    }

    /// Acquires the build lock. It is held until it is dropped or the process ends.
    fn lock(&self, path: &Path) -> Result<File, GoModuleError> {
        let failed = |source| GoModuleError::file(path, source);
        let file = File::create(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("{}: waiting for another process that builds it", self.name);
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(file)
    }

    /// Builds in a work directory and renames the programs into place, so that none is ever
    /// incomplete.
    fn build(&self, module: &Path, version: &str, dir: &Path) -> Result<(), GoModuleError> {
        let on_path = |name| on_path(&std::env::var_os("PATH").unwrap_or_default(), name);
        let go_program = on_path("go").ok_or(GoModuleError::NoGo { name: self.name })?;
        // The name is constant, so the next build removes the leftovers of a killed one.
        let work =
            WorkDir::create(dir.join("work")).map_err(|source| GoModuleError::file(dir, source))?;
        for program in self.programs {
            let output = work.0.join(program.name);
            let mut command = on_path("nice").map_or_else(
                || Command::new(&go_program),
                |nice| {
                    let mut command = Command::new(nice);
                    command.args(["-n", "10"]).arg(&go_program);
                    command
                },
            );
            let status = command
                .current_dir(module)
                .args(["build", "-trimpath", "-modcacherw", "-ldflags"])
                .arg(self.linker_flags(version))
                .arg("-o")
                .arg(&output)
                .arg(program.package)
                .env("CGO_ENABLED", "0")
                // Downloads and intermediate files are removed with the work directory.
                .env("GOMODCACHE", work.0.join("modules"))
                .env("GOCACHE", work.0.join("objects"))
                .stdout(io::stderr())
                .status()
                .map_err(|source| GoModuleError::file(&go_program, source))?;
            if !status.success() {
                let name = program.name;
                return Err(GoModuleError::Build { name, status });
            }
            let path = dir.join(program.name);
            std::fs::rename(&output, &path).map_err(|source| GoModuleError::file(&path, source))?;
        }
        Ok(())
    }

    /// Returns linker flags that omit symbols, which are a third of the size and not needed here.
    fn linker_flags(&self, version: &str) -> String {
        let set = |variable: &&str| format!(" -X {variable}={version}");
        let variables: String = self.version_variables.iter().map(set).collect();
        format!("-s -w{variables}")
    }

    fn pinned_version(&self, module: &Path) -> Result<String, GoModuleError> {
        let path = module.join("go.mod");
        let text =
            std::fs::read_to_string(&path).map_err(|source| GoModuleError::file(&path, source))?;
        let version = text.lines().find_map(|line| {
            let mut words = line.split_whitespace().filter(|word| *word != "require");
            (words.next() == Some(self.pins)).then(|| words.next().map(str::to_owned))?
        });
        let pins = self.pins;
        version.ok_or(GoModuleError::NoPin { path, pins })
    }
}

/// Returns the first program with this name in the directories of a `PATH`.
#[must_use]
pub fn on_path(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A directory that is removed when dropped.
struct WorkDir(PathBuf);

impl WorkDir {
    fn create(path: PathBuf) -> io::Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // The next build removes any leftovers.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reason why a program is not available.
#[derive(Debug, thiserror::Error)]
pub enum GoModuleError {
    /// A module does not pin another module whose version is taken from its go.mod.
    #[error("{} does not pin {pins}", path.display())]
    NoPin {
        /// Path of go.mod.
        path: PathBuf,
        /// Path of the module that is not pinned.
        pins: &'static str,
    },
    /// The cache directory is unknown.
    #[error("cannot locate the cache directory")]
    Cache(#[from] cache::NoCacheDir),
    /// Go is not installed.
    #[error("cannot build {name}: `go` is not in PATH")]
    NoGo {
        /// Name of the module.
        name: &'static str,
    },
    /// `go build` failed.
    #[error("`go build` of {name} failed with {status}")]
    Build {
        /// Name of the program.
        name: &'static str,
        /// Exit status.
        status: ExitStatus,
    },
    /// A file or directory cannot be accessed.
    #[error("cannot access {}", path.display())]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// I/O error.
        source: io::Error,
    },
}

impl GoModuleError {
    fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        Self::File { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn reads_pinned_version_from_go_mod() {
        let module = tempfile::tempdir().unwrap();
        let go_mod = module.path().join("go.mod");
        let tool = GoModule {
            name: "tool",
            pins: "example.org/tool/v2",
            programs: &[],
            version_variables: &["example.org/tool/v2/version.text"],
            build_time: "no time",
        };
        std::fs::write(&go_mod, "module m\n\nrequire example.org/tool/v2 v2.1.0\n").unwrap();
        assert_eq!(tool.pinned_version(module.path()).unwrap(), "v2.1.0");
        let block =
            "require (\n\texample.org/tool v1.0.0\n\texample.org/tool/v2 v2.2.0 // indirect\n)\n";
        std::fs::write(&go_mod, block).unwrap();
        assert_eq!(tool.pinned_version(module.path()).unwrap(), "v2.2.0");
        std::fs::write(&go_mod, "module m\n").unwrap();
        let error = tool.pinned_version(module.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("does not pin example.org/tool/v2")
        );
        assert_eq!(
            tool.linker_flags("v2.1.0"),
            "-s -w -X example.org/tool/v2/version.text=v2.1.0"
        );
    }

    #[test]
    fn on_path_returns_first_match() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = full.path().join("tool");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([empty.path(), full.path()]).unwrap();
        assert_eq!(on_path(&path, "tool"), Some(program));
        assert_eq!(on_path(OsStr::new(""), "tool"), None);
    }

    #[test]
    fn work_dir_removes_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work");
        std::fs::create_dir_all(path.join("half")).unwrap();
        let work = WorkDir::create(path.clone()).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        drop(work);
        assert!(!path.exists());
    }
}
