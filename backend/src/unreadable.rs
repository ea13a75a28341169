//! Why a file cannot be read, which happens with files that are mounted into a container.

use std::io;

use rustix::process::geteuid;

/// Describes why a file cannot be read. If rights are missing, says who needs them.
pub fn explain(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    let user = geteuid().as_raw();
    format!("{error}. The user with ID {user} must be allowed to read it, and to enter the folders above it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_rights_names_the_user() {
        let user = format!("user with ID {}", geteuid().as_raw());
        for (kind, expected) in [(io::ErrorKind::PermissionDenied, true), (io::ErrorKind::NotFound, false)] {
            assert_eq!(explain(&kind.into()).contains(&user), expected, "{kind:?}");
        }
    }
}
