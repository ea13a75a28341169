//! What is done about an event: one handler for each feature and each way for its stage to end.
//!
//! An event is only a hint. A handler acts on what the Partner API says, so that a forged or outdated `completed` event does
//! nothing. Whether a stage failed is not looked up: a `failed` event has a recommendation by the status of its case.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use envelope::{EventName, Stage};
use serde::Serialize;

use crate::{
    config,
    document::Document,
    event::Event,
    partner_api::{Case, KnownCases, PartnerApi, PartnerApiError},
};

mod completed;
mod failed;
mod readiness;

pub use completed::result;

use completed::StageCompleted;
use failed::StageFailed;

/// Works out what the partner's application is told about an event.
///
/// A handler may be called again for the same event, after a crash for example, and must then come to the same end. It must
/// not block its thread (`tokio::task::spawn_blocking` is there for that): a try that does cannot be stopped in time.
#[async_trait]
pub trait FeatureHandler: Send + Sync {
    /// Handles one event.
    ///
    /// # Errors
    /// Where there is no outcome now, or where there will never be one.
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError>;
}

/// What the partner's application is told.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The stage completed.
    Result {
        /// What the Partner API says the result is. Personal data: not for logs.
        result: Document,
    },
    /// The stage failed.
    Recommendation {
        /// What to do about it.
        recommendation: Recommendation,
        /// The case as the Partner API describes it.
        case: Box<Case>,
    },
    /// The handler has done everything itself, and the application is told nothing.
    Nothing,
}

impl Outcome {
    /// The outcome's metric label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Result { .. } => "result",
            Self::Recommendation { .. } => "recommendation",
            Self::Nothing => "none",
        }
    }
}

/// What to do about a failed stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// The whole case failed: submit the documents again.
    Resubmit,
    /// Other stages of the case gave results: a person should decide.
    ManualReview,
    /// Other stages of the case were not at their end for as long as we waited for them.
    Wait,
}

/// Why a handler has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    /// A name for the reason, from a closed set: it is a metric label.
    pub code: &'static str,
    /// What happened, without personal data.
    pub detail: String,
    /// Whether trying again can help.
    pub retry: Retry,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It cannot.
    Never,
    /// It can.
    Later,
    /// It can, but not before this time has passed.
    After(Duration),
    /// It is too early, which is not to be counted as a try; to be tried after this time.
    Deferred(Duration),
}

/// A handler for each of the eight events.
#[derive(Clone)]
pub struct Handlers {
    of_events: HashMap<EventName, Arc<dyn FeatureHandler>>,
    known: Arc<KnownCases>,
}

impl Handlers {
    /// The handlers that this product comes with.
    pub fn standard(api: &PartnerApi, settings: &config::Handler) -> Self {
        let handler = |event: EventName| -> Arc<dyn FeatureHandler> {
            let api = api.clone();
            match event.stage {
                Stage::Failed => Arc::new(StageFailed::new(api, settings.wait_for_case)),
                Stage::Completed => Arc::new(StageCompleted::new(api)),
            }
        };
        let of_events = EventName::all().map(|event| (event, handler(event))).collect();
        Self { of_events, known: Arc::clone(api.known()) }
    }

    /// Replaces the handler of one event.
    #[must_use]
    pub fn with(mut self, event: EventName, handler: Arc<dyn FeatureHandler>) -> Self {
        self.of_events.insert(event, handler);
        self
    }

    /// The cases that the Partner API has shown.
    pub fn known(&self) -> &KnownCases {
        &self.known
    }

    /// Lets the event's handler handle it.
    ///
    /// # Errors
    /// The handler's.
    pub async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        match self.of_events.get(&event.name) {
            Some(handler) => handler.handle(event).await,
            None => Err(HandlerError { code: "no_handler", detail: event.name.to_string(), retry: Retry::Never }),
        }
    }
}

impl From<PartnerApiError> for HandlerError {
    fn from(error: PartnerApiError) -> Self {
        let retry = match (error.is_retryable(), error.retry_after) {
            (_, Some(after)) if error.was_not_called() => Retry::Deferred(after),
            (false, _) => Retry::Never,
            (true, None) => Retry::Later,
            (true, Some(after)) => Retry::After(after),
        };
        Self { code: error.code(), detail: error.to_string(), retry }
    }
}
