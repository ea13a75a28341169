//! Takes events from the edge. Says yes only to what is stored.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use envelope::{Envelope, headers};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::{
    config::{Ingest, Secret},
    inbox::{Accepted, Inbox},
    problem::Problem,
    telemetry::{IngestLabels, Metrics},
};

/// What a request needs.
pub struct Context {
    inbox: Inbox,
    metrics: Arc<Metrics>,
    proofs: Vec<Secret>,
}

/// The routes: whatever the path, since the filter has judged it.
pub fn routes(settings: &Ingest, inbox: Inbox, metrics: Arc<Metrics>) -> Router {
    let proofs = settings.proof.reveal().split_whitespace().map(Secret::new).collect();
    Router::new()
        .fallback(any(receive))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .with_state(Arc::new(Context { inbox, metrics, proofs }))
}

async fn receive(State(context): State<Arc<Context>>, headers: HeaderMap, body: Bytes) -> Response {
    let started = Instant::now();
    let stored = store(&context, &headers, &body).await;
    let (answer, response) = match stored {
        Ok((Accepted::Stored, key)) => ("accepted", say_yes("accepted", &key)),
        Ok((Accepted::Duplicate, key)) => ("duplicate", say_yes("duplicate", &key)),
        Ok((Accepted::Conflict, key)) => {
            tracing::warn!(event_key = key, "an event came again with another body; the first one stands");
            ("conflict", say_yes("duplicate", &key))
        }
        Err(problem) => (problem.code(), problem.into_response()),
    };
    context.metrics.ingest.get_or_create(&IngestLabels { answer }).inc();
    context.metrics.ingest_seconds.observe(started.elapsed().as_secs_f64());
    response
}

async fn store(context: &Context, headers: &HeaderMap, body: &[u8]) -> Result<(Accepted, String), Problem> {
    if !context.is_proven(headers) {
        return Err(Problem::Unproven);
    }
    let envelope = Envelope::parse(body).map_err(|refusal| {
        tracing::error!(code = refusal.code.as_str(), "the filter accepted what is not an event");
        Problem::Refused(refusal)
    })?;
    let key = envelope.key();
    let stored = context.inbox.accept(&key, envelope.case_id.as_str(), body, SystemTime::now()).await;
    match stored {
        Ok(accepted) => Ok((accepted, key.to_string())),
        Err(error) => {
            tracing::error!(event_key = key.as_str(), reason = error.reason(), "an event could not be stored: {error}");
            Err(Problem::Unavailable)
        }
    }
}

impl Context {
    fn is_proven(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(headers::PROOF).map(|proof| proof.as_bytes()).unwrap_or_default();
        let matches = |proof: &Secret| bool::from(proof.reveal().as_bytes().ct_eq(shown));
        self.proofs.iter().any(matches)
    }
}

/// An event key needs no escaping in JSON.
fn say_yes(status: &str, key: &str) -> Response {
    let body = format!(r#"{{"status":"{status}","eventKey":"{key}"}}"#);
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
