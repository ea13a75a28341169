//! The backend with two custom handlers. For a completed extraction, the application is sent the
//! number of credits alone, without the personal data around it; for a completed classification, it
//! is sent nothing.
//!
//! Storing, order, retries, dead letters, the command line and the settings are those of the
//! backend.

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use backend::{
    event::Event,
    handler::{self, FeatureHandler, HandlerError, Outcome, Retry},
    partner_api::PartnerApi,
};
use envelope::{EventName, Feature, Stage};
use serde_json::{Value, json};

fn main() -> ExitCode {
    backend::main_with(|handlers, api| {
        let completed = |feature| EventName { feature, stage: Stage::Completed };
        handlers
            .with(completed(Feature::Extraction), Arc::new(Credits { api: api.clone() }))
            .with(completed(Feature::Classification), Arc::new(Ignore))
    })
}

/// Sends the application nothing. A handler that does everything itself also returns
/// [`Outcome::Nothing`].
struct Ignore;

#[async_trait]
impl FeatureHandler for Ignore {
    async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Nothing)
    }
}

/// Sends the application the number of credits in an extraction.
struct Credits {
    api: PartnerApi,
}

#[async_trait]
impl FeatureHandler for Credits {
    /// The backend may call this again for the same event, so it only reads.
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        // An error of the Partner API, or a result that is not ready, turns into a retry or a dead
        // letter.
        let extraction = handler::result(&self.api, event).await?;
        let data: Value = extraction.parse().await.map_err(|_| HandlerError {
            code: "unreadable",
            detail: "the extraction is not as documented".to_owned(),
            retry: Retry::Later,
        })?;
        let credentials = data.get("extraction").and_then(Value::as_array).into_iter().flatten();
        let credits: f64 = credentials.filter_map(|credential| credential.pointer("/totals/credits")?.as_f64()).sum();
        Ok(Outcome::Result { result: json!({ "credits": credits }).into() })
    }
}
