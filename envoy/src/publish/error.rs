//! Why a publication fails.

use std::io;

use crate::{build::BuildError, edge::EdgeError, rehearsal::RehearsalError};

/// The reason why Envoy does not serve a build.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The build cannot be used. Nothing was changed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The build failed its rehearsal. Nothing was changed.
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    /// The shared directory cannot be read or written.
    #[error("cannot read or write the shared directory (--dir): {0}")]
    Store(io::Error),
    /// The running Envoy could not be asked. Nothing was changed.
    #[error(
        "{0}. Nothing was changed. Check --edge, or pass --stage to leave the build for Envoy to load when it starts"
    )]
    NoEnvoy(EdgeError),
    /// A backend does not know the proof. Nothing was changed.
    #[error(
        "a backend does not know the proof of build {0}, so it would store no event. Nothing was changed. Give the backends \
         the same proof (`ingest.proof` accepts the old and the new one, separated by a space)"
    )]
    UnknownProof(String),
    /// No backend could be asked whether it knows the proof. Nothing was changed.
    #[error(
        "no backend could be asked whether it knows the proof: {0}. Nothing was changed. Start a backend, or pass \
         --without-backend to publish without asking"
    )]
    NoBackend(String),
    /// Envoy did not accept the build, or there was an objection to it. The previous build serves
    /// again.
    #[error("build {build} was rolled back, and the previous build serves again: {reason}")]
    Rejected {
        /// The build that was rolled back.
        build: String,
        /// The objection.
        reason: String,
    },
    /// There is no build to return to.
    #[error("there is no earlier build to return to. `guardctl status` lists the builds that are kept")]
    NothingBefore,
}

// Not `#[from]`: the message contains the one of the system already, so it is not a cause as well.
impl From<io::Error> for PublishError {
    fn from(error: io::Error) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_its_causes_says_nothing_twice() {
        let error = PublishError::from(io::Error::other("disk full"));
        let message = error.to_string();
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), message);
    }
}
