//! Stages that failed: recommend what to do about it.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{FeatureHandler, HandlerError, Outcome, Recommendation, Retry};
use crate::{
    event::Event,
    partner_api::{CaseStatus, PartnerApi},
};

/// Looks at the case as a whole, since stages that succeeded can still be fetched.
pub(super) struct StageFailed {
    api: PartnerApi,
    wait_for_case: Duration,
}

/// A case that is not at its end is looked at again when the event is older by a part of its age, but not sooner than this.
const SOONEST: Duration = Duration::from_secs(1);

impl StageFailed {
    pub(super) fn new(api: PartnerApi, wait_for_case: Duration) -> Self {
        Self { api, wait_for_case }
    }

    /// When to look again at a case that is not at its end; none where it was waited for long enough.
    fn look_again(&self, event: &Event) -> Option<Duration> {
        let age = SystemTime::now().duration_since(event.received_at).unwrap_or_default();
        let left = self.wait_for_case.checked_sub(age).filter(|left| !left.is_zero())?;
        Some((age / 4).max(SOONEST).min(left))
    }
}

#[async_trait]
impl FeatureHandler for StageFailed {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let case = self.api.case(&event.case_id).await?;
        let recommendation = match (&case.status, self.look_again(event)) {
            (CaseStatus::Failed, _) => Recommendation::Resubmit,
            (CaseStatus::Completed, _) => Recommendation::ManualReview,
            (CaseStatus::Queued | CaseStatus::Processing, None) => Recommendation::Wait,
            (CaseStatus::Queued | CaseStatus::Processing, Some(pause)) => {
                let detail = "other stages of the case are not at their end".to_owned();
                return Err(HandlerError { code: "case_processing", detail, retry: Retry::NotTried(pause) });
            }
            (CaseStatus::Other(_), _) => {
                let detail = "the case has a status that is not documented".to_owned();
                return Err(HandlerError { code: "unknown_status", detail, retry: Retry::Later });
            }
        };
        Ok(Outcome::Recommendation { recommendation, case: Box::new(case) })
    }
}
