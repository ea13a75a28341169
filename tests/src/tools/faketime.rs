//! libfaketime, a library that makes a program see a different time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{apt_install, folder, once, say, unpack};

/// The variant of the library for multi-threaded programs, and the Debian package that contains it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const PACKAGE: &str = "libfaketime";

/// Returns the path of libfaketime: an installed one, one unpacked from Debian's package, or one
/// installed with apt-get.
///
/// # Errors
/// If none of these works.
pub fn faketime() -> Result<PathBuf> {
    once(PACKAGE, || {
        let unpacked = folder()?.join(PACKAGE);
        let found = || installed(Path::new("/")).or_else(|| installed(&unpacked));
        if let Some(found) = found() {
            return Ok(found);
        }
        say(&format!("{PACKAGE} is not installed; unpacking Debian's package"));
        unpack(PACKAGE, &unpacked).or_else(|error| {
            say(&format!("{PACKAGE} cannot be unpacked ({error:#}); installing it with apt-get"));
            apt_install(&[PACKAGE])
        })?;
        found().with_context(|| format!("Debian's package {PACKAGE} does not contain {LIBRARY}"))
    })
}

/// Whether libfaketime is available. If not, prints the reason.
pub fn has_faketime() -> bool {
    let found = faketime();
    if let Err(reason) = &found {
        say(&format!("clock jumps are left out, because {PACKAGE} is not available: {reason:#}"));
    }
    found.is_ok()
}

fn installed(root: &Path) -> Option<PathBuf> {
    let architectures = fs::read_dir(root.join("usr/lib")).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    architectures.chain([root.join("usr/lib")]).map(|folder| folder.join(LIBRARY)).find(|library| library.is_file())
}
