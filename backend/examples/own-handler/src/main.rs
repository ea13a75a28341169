//! The backend, with handlers of a partner's own: of an extraction the application gets the credits alone, and none of the
//! personal data around them; of a classification it gets nothing.
//!
//! Everything else (storing, order, retries, dead letters, the command line, the settings) is the backend's.

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use backend::{
    event::Event,
    handler::{self, FeatureHandler, HandlerError, Outcome, Retry},
    main_with,
    partner_api::PartnerApi,
};
use envelope::{EventName, Feature, Stage};
use serde_json::{Value, json};

fn main() -> ExitCode {
    main_with(|handlers, api| {
        let completed = |feature| EventName { feature, stage: Stage::Completed };
        handlers
            .with(completed(Feature::Extraction), Arc::new(Credits { api: api.clone() }))
            .with(completed(Feature::Classification), Arc::new(Ignored))
    })
}

/// Tells the application nothing. A handler that does all there is to do by itself ends like this, too.
struct Ignored;

#[async_trait]
impl FeatureHandler for Ignored {
    async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
        Ok(Outcome::Nothing)
    }
}

struct Credits {
    api: PartnerApi,
}

#[async_trait]
impl FeatureHandler for Credits {
    /// May be called again for the same event, so it does nothing but read.
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        // Errors of the Partner API, and that nothing is extracted yet, become retries or dead letters by themselves.
        let extraction = handler::result(&self.api, event).await?;
        let data: Value = extraction.parse().await.map_err(|_| HandlerError {
            code: "unreadable",
            detail: "the extraction cannot be read".to_owned(),
            retry: Retry::Later,
        })?;
        let credentials = data.get("extraction").and_then(Value::as_array).into_iter().flatten();
        let credits: f64 = credentials.filter_map(|credential| credential.pointer("/totals/credits")?.as_f64()).sum();
        Ok(Outcome::Result { result: json!({ "credits": credits }).into() })
    }
}
