//! The handler of completed stages: fetches the result once the Partner API shows the stage as
//! finished.

use async_trait::async_trait;
use envelope::Feature;

use super::{
    FeatureHandler, HandlerError, Outcome, Retry,
    readiness::{self, Readiness},
};
use crate::{
    document::Document,
    event::Event,
    partner_api::{PartnerApi, PartnerApiError, PartnerApiErrorKind},
};

/// Fetches the result of any feature.
pub(super) struct StageCompleted {
    pub(super) api: PartnerApi,
}

#[async_trait]
impl FeatureHandler for StageCompleted {
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Result { result: result(&self.api, event).await? })
    }
}

/// Returns the result of the event's feature if the Partner API shows the stage as finished; the
/// event alone proves nothing. Fetches the case as well only if the result does not say whether its
/// stage has finished.
///
/// # Errors
/// Returns `not_ready`, to be retried, until the stage has finished, and an error of the Partner
/// API if it does not return the result.
pub async fn result(api: &PartnerApi, event: &Event) -> Result<Document, HandlerError> {
    let case_id = &event.case_id;
    let feature = event.name.feature;
    if feature == Feature::Classification {
        let (case, document) = api.case_with_document(case_id).await?;
        return ready(readiness::of_classification(&case), document);
    }
    match api.result(case_id, feature).await {
        Ok(result) => match readiness::of_parts(result.parts()) {
            Readiness::Unclear => {
                let readiness = readiness::of_unclear_result(&api.case(case_id).await?, feature);
                ready(readiness, result.into_document())
            }
            readiness => ready(readiness, result.into_document()),
        },
        Err(PartnerApiError { kind: PartnerApiErrorKind::NotRequested, .. }) => {
            Err(not_ready(readiness::of_missing_result(&api.case(case_id).await?, feature)))
        }
        Err(error) => Err(error.into()),
    }
}

fn ready(readiness: Readiness, document: Document) -> Result<Document, HandlerError> {
    if readiness == Readiness::Ready { Ok(document) } else { Err(not_ready(readiness)) }
}

fn not_ready(readiness: Readiness) -> HandlerError {
    if readiness == Readiness::NotRequested {
        return PartnerApiError::from(PartnerApiErrorKind::NotRequested).into();
    }
    let detail = "the Partner API does not show the stage as finished yet".to_owned();
    HandlerError { code: "not_ready", detail, retry: Retry::Later }
}
