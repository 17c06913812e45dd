//! The directory for built programs and installed tools, outside the build directory.

use std::path::{Path, PathBuf};

/// Environment variable with the path of the directory.
pub const VARIABLE: &str = "BERTH_CACHE";

/// Returns the cache directory: `BERTH_CACHE`, else `berth` in the user's cache directory.
///
/// # Errors
///
/// When neither that variable nor a home directory is set.
pub fn dir() -> Result<PathBuf, NoCacheDir> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    from_variables(
        variable(VARIABLE).as_deref().map(Path::new),
        variable("XDG_CACHE_HOME").as_deref().map(Path::new),
        variable("HOME").as_deref().map(Path::new),
    )
}

fn from_variables(
    berth_cache: Option<&Path>,
    xdg_cache: Option<&Path>,
    home: Option<&Path>,
) -> Result<PathBuf, NoCacheDir> {
    if let Some(dir) = berth_cache {
        return Ok(dir.to_path_buf());
    }
    // The XDG specification requires that relative paths are ignored.
    if let Some(dir) = xdg_cache.filter(|path| path.is_absolute()) {
        return Ok(dir.join("berth"));
    }
    home.map(|home| home.join(".cache/berth")).ok_or(NoCacheDir)
}

/// Neither a cache directory nor a home directory is set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no home directory for the cache; set {VARIABLE} to a directory")]
pub struct NoCacheDir;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_most_specific_variable() {
        let path = |text| Some(Path::new(text));
        let dir = |berth, xdg, home| from_variables(berth, xdg, home).map_err(|_| ());
        assert_eq!(dir(path("b"), path("/c"), path("/h")), Ok("b".into()));
        assert_eq!(dir(None, path("/c"), path("/h")), Ok("/c/berth".into()));
        assert_eq!(
            dir(None, path("c"), path("/h")),
            Ok("/h/.cache/berth".into())
        );
        assert_eq!(dir(None, None, None), Err(()));
    }
}
