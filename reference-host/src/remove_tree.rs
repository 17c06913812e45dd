//! Removes directories that a guest filled: of any depth, and without following symbolic links.

use std::io;
use std::path::Path;

/// Removes a directory and everything in it. Each entry that cannot be removed stays, and does not
/// keep the others. A missing directory is not an error.
///
/// The standard library holds an open file for each level of a tree; a guest can make the tree
/// deeper than the limit of open files, and paths longer than the system accepts. Therefore
/// subdirectories are moved to the top before they are emptied.
///
/// # Errors
///
/// Returns the first error, with the name of its entry.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let removed = unix::empty(path).and_then(|()| std::fs::remove_dir(path));
    #[cfg(not(unix))]
    let removed = std::fs::remove_dir_all(path);
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::{CStr, CString};
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, fchmod, openat, renameat, unlinkat};
    use rustix::io::Errno;

    const DIRECTORY: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

    /// The directory that is being emptied. Its subdirectories are moved into it under new names.
    struct Root {
        directory: OwnedFd,
        moved: u64,
        first_error: Option<io::Error>,
    }

    /// Empties the directory at `path`.
    pub(super) fn empty(path: &Path) -> io::Result<()> {
        let directory = open(rustix::fs::CWD, path)?;
        let mut root = Root {
            directory,
            moved: 0,
            first_error: None,
        };
        loop {
            root.first_error = None;
            let (removed, subdirectories) = root.remove_files(None)?;
            let mut progress = removed;
            for name in &subdirectories {
                progress |= root.remove_subdirectory(name);
            }
            if subdirectories.is_empty() || !progress {
                return root.first_error.map_or(Ok(()), Err);
            }
        }
    }

    impl Root {
        /// Removes the files of `directory`, or of the root. Returns whether it removed any, and
        /// the names of the subdirectories.
        fn remove_files(
            &mut self,
            directory: Option<&OwnedFd>,
        ) -> io::Result<(bool, Vec<CString>)> {
            let (mut progress, mut subdirectories, mut errors) = (false, Vec::new(), Vec::new());
            let directory = directory.unwrap_or(&self.directory);
            for entry in Dir::read_from(directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                match unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) => progress = true,
                    Err(Errno::NOENT) => {}
                    // POSIX systems other than Linux return EPERM for a directory.
                    Err(Errno::ISDIR | Errno::PERM) => subdirectories.push(name.to_owned()),
                    Err(error) => errors.push(named(error, name)),
                }
            }
            self.first_error = self.first_error.take().or(errors.into_iter().next());
            Ok((progress, subdirectories))
        }

        /// Empties and removes a subdirectory of the root: removes its files, and moves its own
        /// subdirectories to the root. Returns whether anything changed.
        fn remove_subdirectory(&mut self, name: &CStr) -> bool {
            let (mut progress, result) = self.flatten(name);
            let removed = result.and_then(|()| {
                unlinkat(&self.directory, name, AtFlags::REMOVEDIR)
                    .map_err(|error| named(error, name))
            });
            match removed {
                Ok(()) => progress = true,
                Err(error) => {
                    self.first_error.get_or_insert(error);
                }
            }
            progress
        }

        fn flatten(&mut self, name: &CStr) -> (bool, io::Result<()>) {
            let directory = open(&self.directory, name).or_else(|_| {
                make_accessible(&self.directory, name);
                open(&self.directory, name).map_err(|error| {
                    io::Error::other(format!("{}: {error}", name.to_string_lossy()))
                })
            });
            let directory = match directory {
                Ok(directory) => directory,
                Err(error) => return (false, Err(error)),
            };
            // Only the owner of a directory without permissions may grant them; others fail below.
            let _ = fchmod(&directory, Mode::RWXU);
            let (mut progress, subdirectories) = match self.remove_files(Some(&directory)) {
                Ok(removed) => removed,
                Err(error) => return (false, Err(error)),
            };
            for subdirectory in &subdirectories {
                let moved = format!("berth-moved-{}", self.moved);
                self.moved += 1;
                let mut result = renameat(&directory, subdirectory, &self.directory, &moved);
                if result.is_err() {
                    make_accessible(&directory, subdirectory);
                    result = renameat(&directory, subdirectory, &self.directory, &moved);
                }
                match result {
                    Ok(()) => progress = true,
                    Err(error) => return (progress, Err(named(error, subdirectory))),
                }
            }
            (progress, Ok(()))
        }
    }

    fn open<P: rustix::path::Arg>(parent: impl std::os::fd::AsFd, path: P) -> io::Result<OwnedFd> {
        Ok(openat(parent, path, DIRECTORY, Mode::empty())?)
    }

    /// Gives the owner all permissions of a directory. A failure shows in the next step.
    fn make_accessible(parent: &OwnedFd, name: &CStr) {
        let _ = chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    }

    fn named(error: Errno, name: &CStr) -> io::Error {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy()))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{Mode, OFlags, mkdirat, openat};

    use super::*;

    /// Makes a tree that is deeper than any path may be long.
    fn make_deep_tree(top: &Path, depth: usize) {
        let mut directory = rustix::fs::open(top, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&directory, "d", Mode::RWXU).unwrap();
            let file = openat(
                &directory,
                "file",
                OFlags::CREATE | OFlags::WRONLY,
                Mode::RUSR,
            );
            drop(file.unwrap());
            directory = openat(&directory, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn removes_deep_trees_links_and_entries_without_permissions() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let top = parent.path().join("top");
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        symlink(&outside, top.join("link")).unwrap();
        symlink(&outside, top.join("a/b/link")).unwrap();
        symlink("nowhere", top.join("dangling")).unwrap();
        for file in 0..1000 {
            std::fs::write(top.join(format!("a/{file}")), "x").unwrap();
        }
        make_deep_tree(&top, 3000);
        for path in [top.join("a/0"), top.join("a/b/c"), top.join("a/b")] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o0)).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists(), "links are not followed");
        remove_tree(&top).unwrap();
    }

    #[test]
    fn does_not_follow_a_link_at_the_top() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let link = parent.path().join("link");
        symlink(&outside, &link).unwrap();
        assert!(remove_tree(&link).is_err());
        assert!(outside.join("kept").exists());
    }
}
