//! Stages that completed: fetch the result.

use async_trait::async_trait;

use super::{FeatureHandler, HandlerError, Outcome, Retry};
use crate::{event::Event, partner_api::PartnerApi};

/// Fetches what the documents are, what they say, whether they were tampered with, or their translation.
pub(super) struct StageCompleted {
    api: PartnerApi,
}

impl StageCompleted {
    pub(super) fn new(api: PartnerApi) -> Self {
        Self { api }
    }
}

#[async_trait]
impl FeatureHandler for StageCompleted {
    /// The event says that the stage completed; the result says so too only where some part of it has.
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let result = self.api.result(&event.case_id, event.name.feature).await?;
        if result.is_pending() {
            let detail = "the Partner API has no completed part of the result yet".to_owned();
            return Err(HandlerError { code: "not_ready", detail, retry: Retry::Later });
        }
        Ok(Outcome::Result { result: result.into_document() })
    }
}
