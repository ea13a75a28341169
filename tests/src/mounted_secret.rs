//! A directory in which a kubelet has mounted a Secret.
//!
//! ```text
//! ..2026_01_31_…  the files, in a folder that is never changed
//! ..data          a symbolic link to that folder
//! filter.json     a symbolic link to ..data/filter.json, and so on
//! ```
//!
//! To update the files, the kubelet takes the steps of Kubernetes' `AtomicWriter`, as
//! [`MountedSecret::update`] does. Versions of Kubernetes differ in one step: the links to new files
//! are created before or after `..data` is replaced. Here they are created afterwards, so that a
//! program that reads the files as soon as `..data` was replaced may miss them.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The link that is replaced to update all files at once.
const DATA: &str = "..data";

/// A mounted Secret. Dropping it removes the directory.
pub struct MountedSecret {
    folder: TempDir,
    updates: u32,
}

impl MountedSecret {
    /// Mounts the files in a directory.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn mount(files: &Path) -> io::Result<Self> {
        let mut mounted = Self { folder: tempfile::tempdir()?, updates: 0 };
        mounted.update(files)?;
        Ok(mounted)
    }

    /// The directory of the mount.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces all files by those in another directory.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn update(&mut self, files: &Path) -> io::Result<()> {
        let mount = self.folder.path().to_owned();
        let before = fs::read_link(mount.join(DATA)).ok();
        self.updates += 1;
        let data = PathBuf::from(format!("..2026_01_31_00_00_{:02}.123456789", self.updates));
        fs::create_dir(mount.join(&data))?;
        let names = names(files)?;
        for name in &names {
            fs::copy(files.join(name), mount.join(&data).join(name))?;
        }
        symlink(&data, mount.join("..data_tmp"))?;
        fs::rename(mount.join("..data_tmp"), mount.join(DATA))?;
        let visible = visible(&mount)?;
        for new in names.difference(&visible) {
            symlink(Path::new(DATA).join(new), mount.join(new))?;
        }
        for old in visible.difference(&names) {
            fs::remove_file(mount.join(old))?;
        }
        before.map_or(Ok(()), |before| fs::remove_dir_all(mount.join(before)))
    }
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The files that the mount shows under their own names.
fn visible(mount: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut names = names(mount)?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b".."));
    Ok(names)
}
