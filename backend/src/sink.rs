//! Where outcomes go: the partner's application, or the log.

use serde::Serialize;
use serde_json::Value;

use crate::{
    config::{self, SinkKind},
    document::DocumentBody,
    event::Event,
    handler::{HandlerError, Outcome, Recommendation},
    partner_api::Case,
    time::to_millis,
};

mod http;

use http::HttpSink;

/// The configured sink.
pub enum Sink {
    /// Writes a line for each outcome, without the outcome: it is personal data.
    Log,
    /// Posts each outcome.
    Http(Box<HttpSink>),
}

/// What the partner's application is sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery<'a> {
    /// The event's identity: the same each time that this is sent.
    pub event_key: &'a str,
    /// The event's name.
    pub event_name: &'static str,
    /// The feature.
    pub feature: &'static str,
    /// TruEnroll's identifier of the case.
    pub case_id: &'a str,
    /// The partner's own reference for the case.
    pub external_id: Option<&'a str>,
    /// When the stage ended inside of TruEnroll, RFC 3339.
    pub occurred_at: String,
    /// When we stored the event, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Whether the event never came, and was made up for; `occurredAt` is then when that was found.
    pub backfilled: bool,
}

impl Sink {
    /// The sink that the settings describe.
    ///
    /// # Errors
    /// Where they make no HTTP client.
    pub fn new(settings: &config::Sink) -> anyhow::Result<Self> {
        Ok(match settings.kind {
            SinkKind::Log => Self::Log,
            SinkKind::Http => Self::Http(Box::new(HttpSink::new(settings)?)),
        })
    }

    /// Hands an outcome over.
    ///
    /// # Errors
    /// Where it was not taken.
    pub async fn deliver(&self, event: &Event, outcome: Outcome) -> Result<(), HandlerError> {
        match self {
            Self::Log => {
                tracing::info!(event_key = event.key.as_str(), "handled");
                Ok(())
            }
            Self::Http(sink) => sink.deliver(event, outcome).await,
        }
    }
}

/// An outcome that is written out: a result, which may be large, apart.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written<'a> {
    Recommendation { recommendation: Recommendation, case: &'a Case },
}

impl<'a> Delivery<'a> {
    fn new(event: &'a Event) -> Self {
        Self {
            event_key: event.key.as_str(),
            event_name: event.name.as_str(),
            feature: event.name.feature.as_str(),
            case_id: event.case_id.as_str(),
            external_id: event.external_id.as_deref(),
            occurred_at: event.occurred_at.to_string(),
            received_at_ms: to_millis(event.received_at),
            backfilled: event.backfilled,
        }
    }

    /// The delivery as JSON, with what came of the event in `outcome`.
    fn with(&self, outcome: Outcome) -> serde_json::Result<DocumentBody> {
        let mut before = serde_json::to_string(self)?;
        // The closing brace, which comes after the outcome.
        before.pop();
        before.push_str(r#","outcome":"#);
        let (document, after) = match outcome {
            Outcome::Result { result } => {
                before.push_str(r#"{"kind":"result","result":"#);
                (result, "}}")
            }
            Outcome::Recommendation { recommendation, case } => {
                let written = Written::Recommendation { recommendation, case: &case };
                (serde_json::to_value(written)?.into(), "}")
            }
            Outcome::Nothing => (Value::Null.into(), "}"),
        };
        Ok(DocumentBody::new(before, document, after))
    }
}
