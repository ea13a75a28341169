//! The directory of rendered files, which one process at a time writes to.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::store::{NewFile, replace_durably};

/// Permissions for the owner alone, because the files contain the path token and the proof.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// A directory, locked until it is dropped.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the directory if necessary, and waits until no other process writes to it.
    ///
    /// # Errors
    /// If the directory or its lock cannot be created.
    pub(super) fn lock(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path.join(".lock"))?;
        lock.lock()?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Replaces a file durably. If that fails, the previous file stays.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // In the same directory, which may be a mount of its own.
        let unfinished = NewFile { path: self.path.join(format!(".{name}.unfinished")), mode: PRIVATE_FILE };
        replace_durably(&self.path.join(name), &unfinished, content)
    }

    /// Removes what other renders have written: modules, resources, and the files that a killed
    /// render did not finish.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub(super) fn remove_all_but(&self, kept: [&str; 2]) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_rendered(&name) && !kept.contains(&&*name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_rendered(name: &str) -> bool {
    let is_of_a_build = name.starts_with("filter-") && (name.ends_with(".wasm") || name.ends_with(".json"));
    is_of_a_build || (name.starts_with('.') && name.ends_with(".unfinished"))
}
