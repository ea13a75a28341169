//! What the backend does about an event: one handler for each of the eight events.
//!
//! An event is only a hint. A handler acts on what the Partner API says, so a forged or outdated
//! `completed` event does nothing. Whether a stage failed is not checked: the recommendation for a
//! `failed` event follows from the status of the case.

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

/// Determines the outcome of an event.
///
/// A handler may be called again for the same event, for example after a crash, and must then come
/// to the same outcome. It must not block its thread, because a blocking attempt cannot be timed
/// out: use [`tokio::task::spawn_blocking`] instead.
#[async_trait]
pub trait FeatureHandler: Send + Sync {
    /// Handles one event.
    ///
    /// # Errors
    /// If there is no outcome yet, or there will never be one. [`HandlerError::retry`] says which.
    async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError>;
}

/// What a handler makes of an event.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The stage completed: its result is delivered.
    Result {
        /// The result, as the Partner API wrote it. Personal data: do not log it.
        result: Document,
    },
    /// The stage failed: a recommendation is delivered.
    Recommendation {
        /// What the application should do.
        recommendation: Recommendation,
        /// The case, as the Partner API describes it.
        case: Box<Case>,
    },
    /// The handler has done everything itself: nothing is delivered.
    Nothing,
}

/// An outcome that the sink delivers: any but [`Outcome::Nothing`].
#[derive(Debug, Clone)]
pub(crate) enum Deliverable {
    /// The result of a completed stage.
    Result(Document),
    /// The recommendation for a failed stage.
    Recommendation {
        /// What the application should do.
        recommendation: Recommendation,
        /// The case, as the Partner API describes it.
        case: Box<Case>,
    },
}

/// What the application should do about a failed stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Submit the documents again: the whole case failed.
    Resubmit,
    /// Let a person decide: other stages of the case have results.
    ManualReview,
    /// Wait: other stages of the case were still unfinished after `handler.wait_for_case_s`.
    Wait,
}

/// Why a handler has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError {
    /// A name for the reason. It is a metric label, so it must come from a small, fixed set.
    pub code: &'static str,
    /// What happened and what to do about it, for the operator; without personal data.
    pub detail: String,
    /// Whether another attempt can help.
    pub retry: Retry,
}

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: the event becomes a dead letter at once.
    Never,
    /// Yes, after the worker's back-off.
    Later,
    /// Yes, but not before this time has passed.
    After(Duration),
    /// It is too early for an attempt. The event is handled again after this time, and this does
    /// not count as an attempt.
    Deferred(Duration),
}

/// The handlers of all eight events.
#[derive(Clone)]
pub struct Handlers {
    completed: Arc<StageCompleted>,
    failed: Arc<StageFailed>,
    /// Handlers that take the place of the standard ones.
    replaced: HashMap<EventName, Arc<dyn FeatureHandler>>,
    known: Arc<KnownCases>,
}

impl Outcome {
    /// Returns the outcome's metric label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Result { .. } => "result",
            Self::Recommendation { .. } => "recommendation",
            Self::Nothing => "none",
        }
    }

    /// Returns what the sink has to deliver; `None` for [`Outcome::Nothing`].
    pub(crate) fn into_deliverable(self) -> Option<Deliverable> {
        match self {
            Self::Result { result } => Some(Deliverable::Result(result)),
            Self::Recommendation { recommendation, case } => Some(Deliverable::Recommendation { recommendation, case }),
            Self::Nothing => None,
        }
    }
}

impl Handlers {
    /// Returns the standard handlers.
    pub(crate) fn standard(api: &PartnerApi, settings: &config::Handler) -> Self {
        Self {
            completed: Arc::new(StageCompleted { api: api.clone() }),
            failed: Arc::new(StageFailed { api: api.clone(), wait_for_case: settings.wait_for_case }),
            replaced: HashMap::new(),
            known: Arc::clone(api.known()),
        }
    }

    /// Replaces the handler of one event.
    #[must_use]
    pub fn with(mut self, event: EventName, handler: Arc<dyn FeatureHandler>) -> Self {
        self.replaced.insert(event, handler);
        self
    }

    /// Returns the cases that are known to exist.
    pub(crate) fn known(&self) -> &KnownCases {
        &self.known
    }

    /// Calls the event's handler.
    ///
    /// # Errors
    /// Returns the handler's error.
    pub async fn handle(&self, event: &Event) -> Result<Outcome, HandlerError> {
        if let Some(handler) = self.replaced.get(&event.name) {
            return handler.handle(event).await;
        }
        match event.name.stage {
            Stage::Completed => self.completed.handle(event).await,
            Stage::Failed => self.failed.handle(event).await,
        }
    }
}

impl From<PartnerApiError> for HandlerError {
    fn from(error: PartnerApiError) -> Self {
        let retry = match error.retry_after {
            Some(after) if error.was_not_called() => Retry::Deferred(after),
            _ if !error.is_retryable() => Retry::Never,
            Some(after) => Retry::After(after),
            None => Retry::Later,
        };
        Self { code: error.code(), detail: error.to_string(), retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partner_api::PartnerApiErrorKind as Kind;

    #[test]
    fn an_error_of_the_partner_api_says_whether_to_retry() {
        let wait = Duration::from_secs(9);
        for (kind, retry_after, expected) in [
            (Kind::Timeout, None, Retry::Later),
            (Kind::Unauthorized, None, Retry::Later),
            (Kind::TooManyRequests, Some(wait), Retry::After(wait)),
            (Kind::Server(503), Some(wait), Retry::After(wait)),
            (Kind::CaseNotFound, None, Retry::Never),
            (Kind::CaseNotFound, Some(wait), Retry::Never),
            (Kind::TooLarge, None, Retry::Never),
            (Kind::Busy, Some(wait), Retry::Deferred(wait)),
            (Kind::HeldBack, Some(wait), Retry::Deferred(wait)),
            (Kind::CircuitOpen, Some(wait), Retry::Deferred(wait)),
        ] {
            let error = HandlerError::from(PartnerApiError { kind, retry_after });
            assert_eq!(error.retry, expected, "{kind:?}, {retry_after:?}");
        }
    }
}
