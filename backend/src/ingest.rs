//! Takes events from the edge. Says yes only to what is stored.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use envelope::{
    Code, EventKey, Policy, Rejection, Verdict,
    headers::{self, Judgement, Mark},
};
use tokio::time::Instant;

use crate::{
    config::Ingest,
    inbox::{Accepted, Arrival, Inbox, Place},
    problem::Problem,
    proofs::Proofs,
    telemetry::{IngestLabels, Metrics},
};

/// What a request needs.
pub struct Context {
    inbox: Inbox,
    metrics: Arc<Metrics>,
    proofs: Arc<Proofs>,
}

/// The routes: whatever the path, since the filter has judged it.
pub fn routes(settings: &Ingest, inbox: Inbox, metrics: Arc<Metrics>, proofs: Arc<Proofs>) -> Router {
    Router::new()
        .route(Policy::PROVE_PATH, any(prove))
        .fallback(any(receive))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .with_state(Arc::new(Context { inbox, metrics, proofs }))
}

async fn receive(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let started = Instant::now();
    let (answer, mut response) = match context.proofs.judgement(&headers) {
        None => ("unproven", Problem::Unproven.into_response()),
        Some(judgement) => {
            let (answer, mut response) = answer(&context, judgement, body).await;
            mark(&mut response, headers::BUILD, judgement.build);
            if let Mark::Shadowed(code) = judgement.mark {
                mark(&mut response, headers::SHADOW, code);
            }
            (answer, response)
        }
    };
    if response.status() != StatusCode::ACCEPTED {
        mark(&mut response, headers::REJECTION, answer);
    }
    context.metrics.ingest.get_or_create(&IngestLabels { answer }).inc();
    context.metrics.ingest_seconds.observe(started.elapsed().as_secs_f64());
    response
}

async fn answer(
    context: &Context,
    judgement: Judgement<'_>,
    body: Result<Bytes, BytesRejection>,
) -> (&'static str, Response) {
    // Larger than the filter lets pass, or broken off: then nobody waits for the answer.
    let Ok(body) = body else {
        let problem = Problem::Rejected(Rejection::new(Code::PayloadTooLarge));
        return (problem.code(), problem.into_response());
    };
    let verdict = match read(judgement, &body) {
        Ok(verdict) => verdict,
        Err(rejection) => {
            if judgement.mark == Mark::Accepted {
                tracing::error!(code = rejection.code.as_str(), "the filter accepted what is not an event");
            }
            let problem = Problem::Rejected(rejection);
            return (problem.code(), problem.into_response());
        }
    };
    let (place, key, case_id, occurred_at) = match &verdict {
        Verdict::Accept(event) => (Place::Inbox(event.event.feature), event.key(), &event.case_id, event.occurred_at),
        Verdict::Quarantine(event) => (Place::Quarantine, event.key(), &event.case_id, event.occurred_at),
    };
    let (key, received_at, missed) = (&key, SystemTime::now(), None);
    let arrival = Arrival { place, key, case_id, occurred_at, body: &body, received_at, missed };
    let stored = context.inbox.accept(&arrival).await;
    match (stored, place) {
        (Ok(Accepted::Stored), Place::Inbox(_)) => ("accepted", say_yes("accepted", key)),
        (Ok(Accepted::Stored), Place::Quarantine) => ("quarantined", say_yes("quarantined", key)),
        (Ok(Accepted::Duplicate), _) => ("duplicate", say_yes("duplicate", key)),
        (Ok(Accepted::Revived), _) => {
            tracing::info!(event_key = key.as_str(), "a dead letter was delivered again, and is back in its lane");
            ("revived", say_yes("accepted", key))
        }
        (Ok(Accepted::AlreadyBackfilled), _) => ("already_backfilled", say_yes("duplicate", key)),
        (Ok(Accepted::Conflict), _) => {
            tracing::warn!(event_key = key.as_str(), "an event came again with another body; the first one stands");
            ("conflict", say_yes("duplicate", key))
        }
        (Err(error), _) => {
            tracing::error!(event_key = key.as_str(), reason = error.reason(), "an event could not be stored: {error}");
            (Problem::Unavailable.code(), Problem::Unavailable.into_response())
        }
    }
}

/// Reads the body again, with the same contract as the filter's, or another version of it.
fn read<'a>(judgement: Judgement<'_>, body: &'a [u8]) -> Result<Verdict<'a>, Rejection> {
    // The filter has not judged it, and `prove` is not here.
    if judgement.mark == Mark::Probe {
        return Err(Rejection::new(Code::NotFound));
    }
    match Verdict::parse(body)? {
        unknown @ Verdict::Quarantine(_) if judgement.mark == Mark::Quarantined => Ok(unknown),
        verdict => Ok(Verdict::Accept(verdict.known()?)),
    }
}

/// Answers the publisher, which asks whether this backend knows a proof: the one in `authorization`, before a build with it
/// is published, or else the one that the filter shows. Nothing is stored or counted, and readiness does not change.
async fn prove(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let candidate = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let judgement = headers.get(headers::JUDGED).and_then(|value| Judgement::read(value.as_bytes()));
    let shown = candidate.or(judgement.map(|judgement| judgement.proof));
    let mut response = if shown.is_some_and(|proof| context.proofs.knows(proof)) {
        ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"proven"}"#).into_response()
    } else {
        let mut response = Problem::Unproven.into_response();
        mark(&mut response, headers::REJECTION, Problem::Unproven.code());
        response
    };
    if let Some(judgement) = judgement {
        mark(&mut response, headers::BUILD, judgement.build);
    }
    response
}

fn mark(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// An event key needs no escaping in JSON.
fn say_yes(status: &str, key: &EventKey) -> Response {
    let body = format!(r#"{{"status":"{status}","eventKey":"{key}"}}"#);
    let mut response = (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    mark(&mut response, headers::EVENT_KEY, key.as_str());
    response
}
