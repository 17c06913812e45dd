//! Programs of pinned Go modules: built once, by whoever comes first, into the cache.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::cache;

/// A module of `xtask/tools/`, which pins the release of one other module and builds programs of it.
#[derive(Debug)]
pub struct GoModule {
    /// Its folder in `xtask/tools/`, and what its folder in the cache begins with.
    pub name: &'static str,
    /// The Go module that it pins.
    pub pins: &'static str,
    /// What is built.
    pub programs: &'static [Program],
    /// Go variables that are set to the pinned version, as its own release does.
    pub version_variables: &'static [&'static str],
    /// What to expect, for people who wait.
    pub takes: &'static str,
}

/// One program.
#[derive(Debug)]
pub struct Program {
    /// The name of the file.
    pub name: &'static str,
    /// The Go package.
    pub package: &'static str,
}

impl GoModule {
    /// The folder with all programs: from the cache, or built now, at low priority and without cgo. Says what it
    /// does when that takes time, on stderr. Of several who ask at once one builds, and the others wait for it.
    ///
    /// # Errors
    ///
    /// When the programs are not there and cannot be built.
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
                "{}: building {version} with Go, once ({}), into {}",
                self.name,
                self.takes,
                dir.display()
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

    /// Held until dropped, or until this process ends in whatever way.
    fn lock(&self, path: &Path) -> Result<File, GoModuleError> {
        let failed = |source| GoModuleError::file(path, source);
        let file = File::create(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("{}: another process builds it; waiting", self.name);
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(file)
    }

    /// Builds beside the final place and renames, so that no one ever finds half a program.
    fn build(&self, module: &Path, version: &str, dir: &Path) -> Result<(), GoModuleError> {
        let on_path = |name| on_path(&std::env::var_os("PATH").unwrap_or_default(), name);
        let go = on_path("go").ok_or(GoModuleError::NoGo { name: self.name })?;
        // One name for all time: what a build that was killed left behind goes away with the next.
        let work =
            Work::make(dir.join("work")).map_err(|source| GoModuleError::file(dir, source))?;
        for program in self.programs {
            let output = work.0.join(program.name);
            let mut command = on_path("nice").map_or_else(
                || Command::new(&go),
                |nice| {
                    let mut command = Command::new(nice);
                    command.args(["-n", "10"]).arg(&go);
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
                // Downloads and intermediate files go away with the work directory.
                .env("GOMODCACHE", work.0.join("modules"))
                .env("GOCACHE", work.0.join("objects"))
                .stdout(io::stderr())
                .status()
                .map_err(|source| GoModuleError::file(&go, source))?;
            if !status.success() {
                let name = program.name;
                return Err(GoModuleError::Build { name, status });
            }
            let place = dir.join(program.name);
            std::fs::rename(&output, &place)
                .map_err(|source| GoModuleError::file(&place, source))?;
        }
        Ok(())
    }

    /// Without symbols, which nobody reads here and which are a third of the size.
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

/// The first program of this name in the folders of a `PATH`.
#[must_use]
pub fn on_path(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A folder that goes away with this.
struct Work(PathBuf);

impl Work {
    fn make(path: PathBuf) -> io::Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is removed by the next build.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum GoModuleError {
    /// The pin is missing.
    #[error("{} does not pin {pins}", path.display())]
    NoPin {
        /// The file without it.
        path: PathBuf,
        /// What it should pin.
        pins: &'static str,
    },
    /// No place to build into.
    #[error("there is no folder to keep programs in")]
    Cache(#[from] cache::NoHome),
    /// Go is not installed.
    #[error("{name} would be built with Go, and there is no `go` on the PATH")]
    NoGo {
        /// The module.
        name: &'static str,
    },
    /// Go failed.
    #[error("`go build` of {name} ended with {status}")]
    Build {
        /// The program.
        name: &'static str,
        /// How.
        status: ExitStatus,
    },
    /// A file or directory is not as it should be.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the file system says.
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
    fn the_pin_is_read_from_the_module() {
        let module = tempfile::tempdir().unwrap();
        let go_mod = module.path().join("go.mod");
        let tool = GoModule {
            name: "tool",
            pins: "example.org/tool/v2",
            programs: &[],
            version_variables: &["example.org/tool/v2/version.text"],
            takes: "no time",
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
    fn the_first_program_on_the_path_is_taken() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = full.path().join("tool");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([empty.path(), full.path()]).unwrap();
        assert_eq!(on_path(&path, "tool"), Some(program));
        assert_eq!(on_path(OsStr::new(""), "tool"), None);
    }

    #[test]
    fn what_a_killed_build_left_behind_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work");
        std::fs::create_dir_all(path.join("half")).unwrap();
        let work = Work::make(path.clone()).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        drop(work);
        assert!(!path.exists());
    }
}
