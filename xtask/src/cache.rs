//! The one folder in which the chores keep what they set up, outside the build directory.

use std::path::{Path, PathBuf};

/// The variable that names another folder.
pub const VARIABLE: &str = "BERTH_CACHE";

/// Where things are kept: `BERTH_CACHE`, else `berth` in the user's cache directory.
///
/// # Errors
///
/// When neither that variable nor a home directory is known.
pub fn dir() -> Result<PathBuf, NoHome> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    from_variables(
        variable(VARIABLE).as_deref().map(Path::new),
        variable("XDG_CACHE_HOME").as_deref().map(Path::new),
        variable("HOME").as_deref().map(Path::new),
    )
}

fn from_variables(
    berth: Option<&Path>,
    user: Option<&Path>,
    home: Option<&Path>,
) -> Result<PathBuf, NoHome> {
    if let Some(berth) = berth {
        return Ok(berth.to_path_buf());
    }
    // A relative path in this variable is to be ignored, says its specification.
    if let Some(user) = user.filter(|path| path.is_absolute()) {
        return Ok(user.join("berth"));
    }
    home.map(|home| home.join(".cache/berth")).ok_or(NoHome)
}

/// There is no place to keep anything.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no home directory to keep a cache in; name a folder in {VARIABLE}")]
pub struct NoHome;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variable_decides() {
        let path = |text| Some(Path::new(text));
        let dir = |berth, user, home| from_variables(berth, user, home).map_err(|_| ());
        assert_eq!(dir(path("b"), path("/c"), path("/h")), Ok("b".into()));
        assert_eq!(dir(None, path("/c"), path("/h")), Ok("/c/berth".into()));
        assert_eq!(
            dir(None, path("c"), path("/h")),
            Ok("/h/.cache/berth".into())
        );
        assert_eq!(dir(None, None, None), Err(()));
    }
}
