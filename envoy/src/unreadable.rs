//! Files that this process may not read, which happens with files that are mounted into a container.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// A file that this process may not read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {}", path.display(), explain(error))]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub error: io::Error,
}

/// Describes why a file cannot be read. If rights are missing, says who needs them.
pub fn explain(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    let user = geteuid().as_raw();
    format!("{error}. The user with ID {user} must be allowed to read it, and to enter the folders above it")
}

/// Makes sure that this process may read every file that a configuration of Envoy names, and the
/// files that those name in turn. Envoy itself would not say whose rights are missing. A file that
/// does not exist is not an error.
///
/// # Errors
/// Returns the first file that this process may not read.
pub fn ensure_readable(configuration: &str) -> Result<(), Unreadable> {
    for path in absolute_paths(configuration) {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unreadable { path: path.to_owned(), error });
            }
            Ok(bytes) if path.extension().is_some_and(|extension| extension == "yaml") => {
                ensure_readable(&String::from_utf8_lossy(&bytes))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the absolute paths outside of comments. Options that are off are comments.
fn absolute_paths(yaml: &str) -> impl Iterator<Item = &Path> {
    let lines = yaml.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = lines.filter_map(|line| line.split(" #").next()?.split_once(": "));
    let words = values.flat_map(|(_, value)| value.split([' ', ',', '"', '{', '}']));
    words.filter(|word| word.starts_with('/')).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Bootstrap;

    #[test]
    fn only_a_lack_of_rights_names_the_user() {
        let user = format!("user with ID {}", geteuid().as_raw());
        for (kind, expected) in [(io::ErrorKind::PermissionDenied, true), (io::ErrorKind::NotFound, false)] {
            let unreadable = Unreadable { path: "/etc/edge/policy.toml".into(), error: kind.into() };
            let said = unreadable.to_string();
            assert!(said.starts_with("cannot read /etc/edge/policy.toml: "), "{said}");
            assert_eq!(said.contains(&user), expected, "{said}");
        }
    }

    #[test]
    fn the_files_that_envoy_reads_are_found() {
        let bootstrap = Bootstrap::shipped();
        let named = |text: &str| absolute_paths(text).map(Path::to_owned).collect::<Vec<_>>();
        let has = |text: &str, path: &str| named(text).contains(&PathBuf::from(path));
        let plain = bootstrap.as_yaml();
        assert!(has(plain, "/etc/envoy/log-limit.yaml") && has(plain, "/var/lib/edge/ecds/filter.json"));
        assert!(!has(plain, "/etc/envoy/tls.yaml"), "the option is off");
        let with_tls = bootstrap.clone().enable("tls").unwrap();
        assert!(has(with_tls.as_yaml(), "/etc/envoy/tls.yaml"));
        let certificate = ["/etc/edge/tls/certificate.pem", "/etc/edge/tls/key.pem", "/etc/edge/tls"];
        assert_eq!(named(include_str!("../tls.yaml")), certificate.map(PathBuf::from));
    }
}
