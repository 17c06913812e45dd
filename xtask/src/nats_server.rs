//! Obtains a real nats-server: the one that is there, or the pinned release built once with Go.

use std::path::{Path, PathBuf};

use crate::go_module::{self, GoModule, GoModuleError, Program};

/// The variable that names the program; tests read it, too.
pub const VARIABLE: &str = "BERTH_NATS_SERVER";

const PROGRAM: &str = "nats-server";

const MODULE: GoModule = GoModule {
    name: PROGRAM,
    pins: "github.com/nats-io/nats-server/v2",
    programs: &[Program {
        name: PROGRAM,
        package: "github.com/nats-io/nats-server/v2",
    }],
    version_variables: &[],
    takes: "half a minute",
};

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
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(program) = go_module::on_path(&path, PROGRAM) {
        return Ok(program);
    }
    Ok(MODULE.obtain(root)?.join(PROGRAM))
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
    /// It cannot be built.
    #[error("there is none on the PATH or in {VARIABLE}, and it cannot be built")]
    Build(#[from] GoModuleError),
}
