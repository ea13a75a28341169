//! libfaketime, which shows programs another time than this machine's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{apt_install, folder, on_path, once, output, run, say};

/// The library for programs with several threads, and the Debian package that holds it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const PACKAGE: &str = "libfaketime";

/// The library: installed, unpacked from Debian's package, or installed with apt-get.
///
/// # Errors
/// Where there is no way to get it.
pub fn faketime() -> Result<PathBuf> {
    once(PACKAGE, || {
        let unpacked = folder()?.join(PACKAGE);
        let found = || installed(Path::new("/")).or_else(|| installed(&unpacked));
        if let Some(found) = found() {
            return Ok(found);
        }
        say(&format!("{PACKAGE}: not installed, so from Debian's package"));
        unpack(&unpacked).or_else(|error| {
            say(&format!("{PACKAGE}: cannot be unpacked ({error:#}), so with apt-get"));
            apt_install(&[PACKAGE])
        })?;
        found().with_context(|| format!("Debian's package {PACKAGE} holds no {LIBRARY}"))
    })
}

/// Whether the clocks of programs can be changed here. Says in one line why not.
pub fn has_faketime() -> bool {
    let found = faketime();
    if let Err(reason) = &found {
        say(&format!("no clock jumps, since there is no {PACKAGE}: {reason:#}"));
    }
    found.is_ok()
}

fn installed(root: &Path) -> Option<PathBuf> {
    let architectures = fs::read_dir(root.join("usr/lib")).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    architectures.chain([root.join("usr/lib")]).map(|folder| folder.join(LIBRARY)).find(|library| library.is_file())
}

/// Unpacks the package beside the other tools. That changes nothing on this machine and needs no root.
fn unpack(target: &Path) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!("this is not a Debian");
    }
    let download = tempfile::tempdir_in(folder()?)?;
    let mut apt = Command::new("apt-get");
    // Otherwise apt-get complains that its own user cannot write here.
    apt.current_dir(&download).args(["-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE]);
    output(&mut apt).context("apt-get brought no package")?;
    let archive = fs::read_dir(&download)?.filter_map(Result::ok).map(|entry| entry.path()).next();
    run(Command::new("dpkg-deb").arg("-x").arg(archive.context("apt-get brought no package")?).arg(target))
}
