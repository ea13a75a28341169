//! A copy of the repository, which a test may change.

use std::{fs, io, path::Path};

/// What is not part of the repository, or not meant for another place.
const LEFT_OUT: [&str; 3] = [".git", "target", ".env"];

/// Copies the repository's files. Hard links are not possible, because tests change the files.
///
/// # Errors
/// If a file cannot be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_products_and_secrets_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["from/.git/HEAD", "from/target/x", "from/fuzz/target/x", "from/.env", "from/src/lib.rs"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let to = folder.path().join("to");
        copy(&folder.path().join("from"), &to).unwrap();
        let copied = ["src/lib.rs", ".git", "target", "fuzz/target", ".env"].map(|name| to.join(name).exists());
        assert_eq!(copied, [true, false, false, false, false]);
    }
}
