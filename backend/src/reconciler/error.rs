//! The errors of a round.

use super::{PagingError, STORE_LOST};
use crate::{inbox::InboxError, partner_api::PartnerApiError};

/// Why a round did not finish.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The Partner API did not answer as documented.
    #[error(transparent)]
    PartnerApi(#[from] PartnerApiError),
    /// The list of cases cannot be read to its end.
    #[error(transparent)]
    Paging(#[from] PagingError),
    /// Redis did not answer.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The edge's policy cannot be read.
    #[error("`reconciler.policy_file`: cannot read the policy in {file}: {error}")]
    Policy {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: String,
    },
    /// The round took too long.
    #[error("the round took longer than `reconciler.round_timeout_s`: raise it if the account has that many cases")]
    Timeout,
    /// A first round failed. It has to say what it assumed received, since no later round will.
    #[error("{error}; before that, {assumed_received} missing events were assumed received; {STORE_LOST}")]
    FirstRound {
        /// How many missing events the round assumed received.
        assumed_received: u64,
        /// Why the round did not finish.
        error: Box<ReconcilerError>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partner_api::PartnerApiErrorKind;

    #[test]
    fn an_error_with_its_causes_says_nothing_twice() {
        for error in [
            ReconcilerError::from(PartnerApiError::from(PartnerApiErrorKind::Timeout)),
            ReconcilerError::from(PagingError::TooManyCases),
            ReconcilerError::from(InboxError::NotOnDisk),
            ReconcilerError::Timeout,
            ReconcilerError::FirstRound { assumed_received: 1, error: Box::new(ReconcilerError::Timeout) },
        ] {
            let message = error.to_string();
            assert_eq!(format!("{:#}", anyhow::Error::from(error)), message);
        }
        assert!(ReconcilerError::from(PagingError::TooManyCases).to_string().starts_with("the Partner API's list of"));
    }
}
