//! Stages that failed: recommend what to do about it.

use async_trait::async_trait;

use super::{FeatureHandler, HandlerError, Outcome, Recommendation, Retry};
use crate::{
    event::Event,
    partner_api::{CaseStatus, PartnerApi},
};

/// Looks at the case as a whole, since stages that succeeded can still be fetched.
pub(super) struct StageFailed {
    api: PartnerApi,
}

impl StageFailed {
    pub(super) fn new(api: PartnerApi) -> Self {
        Self { api }
    }
}

#[async_trait]
impl FeatureHandler for StageFailed {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let case = self.api.case(&event.case_id).await?;
        let recommendation = match &case.status {
            CaseStatus::Failed => Recommendation::Resubmit,
            CaseStatus::Completed => Recommendation::ManualReview,
            CaseStatus::Queued | CaseStatus::Processing => Recommendation::Wait,
            CaseStatus::Other(_) => {
                let detail = "the case has a status that is not documented".to_owned();
                return Err(HandlerError { code: "unknown_status", detail, retry: Retry::Later });
            }
        };
        Ok(Outcome::Recommendation { recommendation, case: Box::new(case) })
    }
}
