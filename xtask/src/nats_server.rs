//! Obtains a real nats-server: the one that is there, or the pinned release built once with Go.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;

/// The variable that names the program; tests read it, too.
pub const VARIABLE: &str = "BERTH_NATS_SERVER";

/// The Go package of the program.
const PACKAGE: &str = "github.com/nats-io/nats-server/v2";

/// Where the release is pinned, in the repository.
const MODULE_DIR: &str = "xtask/tools/nats-server";

/// The program: from `BERTH_NATS_SERVER`, from the `PATH`, from the cache, or built now. Says what it
/// does when that takes time.
///
/// # Errors
///
/// When the named program is not there, or none is there and it cannot be built.
pub fn obtain(root: &Path) -> Result<PathBuf, NatsServerError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(NatsServerError::Named { path })
        };
    }
    if let Some(path) = on_path(&std::env::var_os("PATH").unwrap_or_default()) {
        return Ok(path);
    }
    let module = root.join(MODULE_DIR);
    let version = pinned_version(&module)?;
    let dir = cache::dir()?.join(format!("nats-server-{version}"));
    let program = dir.join("nats-server");
    if !program.is_file() {
        println!("nats-server: none in {VARIABLE} or on the PATH");
        println!(
            "nats-server: building {version} with Go, once, into {}",
            dir.display()
        );
        build(&module, &dir, &program)?;
    }
    Ok(program)
}

fn on_path(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join("nats-server"))
        .find(|file| file.is_file())
}

fn pinned_version(module: &Path) -> Result<String, NatsServerError> {
    let path = module.join("go.mod");
    let failed = |source| NatsServerError::File {
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let version = text.lines().find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next() == Some(PACKAGE)).then(|| words.next().map(str::to_owned))?
    });
    version.ok_or(NatsServerError::NoPin { path })
}

/// Builds beside the final place and renames, so that no one ever finds half a program.
fn build(module: &Path, dir: &Path, program: &Path) -> Result<(), NatsServerError> {
    let failed = |source| NatsServerError::File {
        path: dir.to_path_buf(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let work = tempfile::tempdir_in(dir).map_err(failed)?;
    let output = work.path().join("nats-server");
    let status = Command::new("go")
        .current_dir(module)
        .args(["build", "-trimpath", "-modcacherw", "-o"])
        .arg(&output)
        .arg(PACKAGE)
        .env("CGO_ENABLED", "0")
        // Downloads and intermediate files go away with the work directory.
        .env("GOMODCACHE", work.path().join("modules"))
        .env("GOCACHE", work.path().join("objects"))
        .status()
        .map_err(NatsServerError::NoGo)?;
    if !status.success() {
        return Err(NatsServerError::Build { status });
    }
    std::fs::rename(&output, program).map_err(failed)
}

/// Why there is no nats-server.
#[derive(Debug, thiserror::Error)]
pub enum NatsServerError {
    /// The variable names nothing.
    #[error("{VARIABLE} names {}, which is no file", path.display())]
    Named {
        /// What it names.
        path: PathBuf,
    },
    /// The pin is missing.
    #[error("{} does not pin {PACKAGE}", path.display())]
    NoPin {
        /// The file without it.
        path: PathBuf,
    },
    /// No place to build into.
    #[error("nats-server cannot be kept anywhere")]
    Cache(#[from] cache::NoHome),
    /// Go cannot be run.
    #[error(
        "nats-server is not there, and Go, which would build it, cannot be run; install either, \
         or name a nats-server in {VARIABLE}"
    )]
    NoGo(#[source] std::io::Error),
    /// Go failed.
    #[error("`go build` of nats-server ended with {status}")]
    Build {
        /// How.
        status: std::process::ExitStatus,
    },
    /// A file or directory is not as it should be.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_read_from_the_module() {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/nats-server");
        let version = pinned_version(&module).unwrap();
        assert!(version.starts_with("v2."), "{version}");
    }

    #[test]
    fn the_first_program_on_the_path_is_taken() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = full.path().join("nats-server");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([empty.path(), full.path()]).unwrap();
        assert_eq!(on_path(&path), Some(program));
        assert_eq!(on_path(OsStr::new("")), None);
    }
}
