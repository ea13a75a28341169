//! The version, which all programs and the filter share.

use std::sync::LazyLock;

/// The version as the workspace's manifest states it, for example `0.1.0`.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// Returns the version for people: the number, followed by the git revision if the environment
/// variable `BUILD_REVISION` named it during the build, for example `0.1.0 (1a2b3c4d)`.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| with_revision(option_env!("BUILD_REVISION")));
    &TEXT
}

fn with_revision(revision: Option<&str>) -> String {
    match revision {
        Some(revision) if !revision.is_empty() => format!("{NUMBER} ({revision})"),
        _ => NUMBER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_shown_if_it_was_known_during_the_build() {
        for (revision, shown) in [(Some("1a2b3c4d"), format!("{NUMBER} (1a2b3c4d)")), (Some(""), NUMBER.to_owned())] {
            assert_eq!(with_revision(revision), shown, "{revision:?}");
        }
        assert_eq!(with_revision(None), NUMBER);
    }
}
