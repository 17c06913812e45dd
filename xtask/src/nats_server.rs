//! Provides a real nats-server: an installed one, or the pinned release, built once with Go.

use std::path::{Path, PathBuf};

use crate::go_module::{self, GoModule, GoModuleError, Program};

/// Environment variable with the path of the program. Tests read it too.
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
    build_time: "half a minute",
};

/// Returns the path of the program: from `BERTH_NATS_SERVER`, else from `PATH`, else from the
/// cache. Builds it if it is missing, and reports that on stderr.
///
/// # Errors
///
/// When the path in `BERTH_NATS_SERVER` is not a file, or the program cannot be built.
pub fn obtain(root: &Path) -> Result<PathBuf, NatsServerError> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(NatsServerError::NotAFile { path })
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(program) = go_module::on_path(&path, PROGRAM) {
        return Ok(program);
    }
    Ok(MODULE.obtain(root)?.join(PROGRAM))
}

/// Reason why nats-server is not available.
#[derive(Debug, thiserror::Error)]
pub enum NatsServerError {
    /// The path in the variable is not a file.
    #[error("{VARIABLE} names {}, which is not a file", path.display())]
    NotAFile {
        /// Path in the variable.
        path: PathBuf,
    },
    /// No program is installed, and building one failed.
    #[error("nats-server is neither in PATH nor in {VARIABLE}, and cannot be built")]
    Build(#[from] GoModuleError),
}
