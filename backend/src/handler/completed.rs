//! Stages that completed: fetch the result.

use async_trait::async_trait;
use serde_json::Value;

use super::{FeatureHandler, HandlerError, Outcome, Retry};
use crate::{
    event::Event,
    partner_api::{PartnerApi, StageResult},
};

/// Classification has no result of its own: it is the case and its credentials.
pub(super) struct ClassificationCompleted {
    api: PartnerApi,
}

/// Fetches what the documents say.
pub(super) struct ExtractionCompleted {
    api: PartnerApi,
}

/// Fetches whether the documents were tampered with.
pub(super) struct ForensicsCompleted {
    api: PartnerApi,
}

/// Fetches the documents' text and its translation.
pub(super) struct TranslationCompleted {
    api: PartnerApi,
}

macro_rules! constructors {
    ($($handler:ident),*) => {
        $(impl $handler {
            pub(super) fn new(api: PartnerApi) -> Self {
                Self { api }
            }
        })*
    };
}

constructors!(ClassificationCompleted, ExtractionCompleted, ForensicsCompleted, TranslationCompleted);

#[async_trait]
impl FeatureHandler for ClassificationCompleted {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        let case = self.api.case(&event.case_id).await?;
        Ok(Outcome::Result { result: serde_json::to_value(case).unwrap_or(Value::Null) })
    }
}

#[async_trait]
impl FeatureHandler for ExtractionCompleted {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        finished(self.api.extraction(&event.case_id).await?)
    }
}

#[async_trait]
impl FeatureHandler for ForensicsCompleted {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        finished(self.api.forensics(&event.case_id).await?)
    }
}

#[async_trait]
impl FeatureHandler for TranslationCompleted {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        finished(self.api.translation(&event.case_id).await?)
    }
}

/// The event says that the stage completed; the result says so too only where some part of it has.
fn finished(result: StageResult) -> Result<Outcome, HandlerError> {
    if result.is_pending() {
        let detail = "the Partner API has no completed part of the result yet".to_owned();
        return Err(HandlerError { code: "not_ready", detail, retry: Retry::Later });
    }
    Ok(Outcome::Result { result: result.into_data() })
}
