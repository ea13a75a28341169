//! A copy of the repository, which a test may change. Its modes are those of a clone with the umask
//! 027, except in the folder that containers read.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// What is not part of the repository, or not meant for another place.
const LEFT_OUT: [&str; 3] = [".git", "target", ".env"];
/// The folder that is mounted into containers.
const MOUNTED: &str = "envoy";
/// The rights that the umask leaves.
const RIGHTS: u32 = 0o750;

/// Copies the repository's files. Hard links are not possible, because tests change the files.
///
/// # Errors
/// If a file cannot be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    copy_folder(from, to, RIGHTS)
}

fn copy_folder(from: &Path, to: &Path, rights: u32) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let target = to.join(&name);
        let rights = if name == MOUNTED { 0o755 } else { rights };
        let mode = entry.metadata()?.permissions().mode();
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target, rights)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
        fs::set_permissions(&target, PermissionsExt::from_mode(mode & rights))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_products_and_secrets_are_left_out_and_modes_are_strict() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".git/HEAD", "target/x", "fuzz/target/x", ".env", "src/lib.rs", "envoy/policy.toml"] {
            let path = folder.path().join("from").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        }
        let to = folder.path().join("to");
        copy(&folder.path().join("from"), &to).unwrap();
        let modes = ["src", "src/lib.rs", "envoy", "envoy/policy.toml"]
            .map(|name| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777);
        assert_eq!(modes, [0o750, 0o640, 0o755, 0o644]);
        let copied = ["src/lib.rs", ".git", "target", "fuzz/target", ".env"].map(|name| to.join(name).exists());
        assert_eq!(copied, [true, false, false, false, false]);
    }
}
