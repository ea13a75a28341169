//! The ingest: receives events from the edge, and acknowledges an event with 202 only once it is
//! stored.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use envelope::{
    Code, Policy, Rejection, Verdict,
    headers::{self, Judgement, Mark},
};
use tokio::time::Instant;

use crate::{
    config::Ingest,
    inbox::{Accepted, Arrival, Inbox, Origin, Place},
    proofs::Proofs,
    telemetry::{IngestLabels, Metrics},
    traces::{self, Span},
};

mod answer;
mod newer_filter;

use answer::{Acknowledgement, Answer, set_header};

/// What the routes use.
struct Context {
    inbox: Inbox,
    metrics: Arc<Metrics>,
    proofs: Arc<Proofs>,
    log: newer_filter::Log,
}

/// Returns the routes of the ingest. They accept any path, since the filter has checked it.
pub(crate) fn routes(settings: &Ingest, inbox: Inbox, metrics: Arc<Metrics>, proofs: Arc<Proofs>) -> Router {
    Router::new()
        .route(Policy::PROVE_PATH, any(prove))
        .fallback(any(receive))
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .with_state(Arc::new(Context { inbox, metrics, proofs, log: newer_filter::Log::new() }))
}

async fn receive(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let started = Instant::now();
    let judgement = context.proofs.judgement(&headers);
    let answer = match judgement {
        Some(judgement) => {
            let parent = headers.get(traces::HEADER).and_then(|value| value.to_str().ok());
            answer(&context, judgement, body, parent).await
        }
        None => Answer::Unproven,
    };
    context.metrics.ingest.get_or_create(&IngestLabels { answer: answer.label() }).inc();
    let mut response = answer.into_response();
    if let Some(judgement) = judgement {
        set_header(&mut response, headers::BUILD, judgement.build);
        if let Mark::Shadowed(code) = judgement.mark {
            set_header(&mut response, headers::SHADOW, code);
        }
    }
    context.metrics.ingest_seconds.observe(started.elapsed().as_secs_f64());
    response
}

/// Parses and stores an event that the filter has accepted. `parent` is Envoy's span.
async fn answer(
    context: &Context,
    judgement: Judgement<'_>,
    body: Result<Bytes, BytesRejection>,
    parent: Option<&str>,
) -> Answer {
    if let Mark::Unknown(mark) = judgement.mark {
        context.log.unknown_mark(mark, judgement.build);
        return Answer::UnknownMark;
    }
    let body = match body {
        Ok(body) => body,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return unreadable(context, judgement, Rejection::new(Code::PayloadTooLarge));
        }
        // The connection broke, and nobody waits for the answer.
        Err(_) => return Answer::Unavailable,
    };
    let verdict = match parse(judgement, &body) {
        Ok(verdict) => verdict,
        Err(rejection) => return unreadable(context, judgement, rejection),
    };
    let received_at = SystemTime::now();
    let (place, key, case_id, occurred_at) = match &verdict {
        Verdict::Accept(event) => (Place::Inbox(event.event.feature), event.key(), &event.case_id, event.occurred_at),
        Verdict::Quarantine(event) => (Place::Quarantine, event.key(), &event.case_id, event.occurred_at),
    };
    let span = Span::store(place.as_str(), &key, parent);
    let (origin, trace) = (Origin::Sent, span.context());
    let trace = trace.as_deref();
    let arrival = Arrival { place, key: &key, case_id, occurred_at, body: &body, received_at, origin, trace };
    let accepted = match context.inbox.accept(&arrival).await {
        Ok(accepted) => accepted,
        Err(error) => {
            span.end(Some(error.reason()));
            tracing::error!(event_key = key.as_str(), reason = error.reason(), "event not stored: {error}");
            return Answer::Unavailable;
        }
    };
    if judgement.mark == Mark::Accepted && place == Place::Quarantine && accepted == Accepted::Stored {
        context.log.unknown_event(&key, judgement.build);
    }
    match accepted {
        Accepted::Revived => {
            tracing::info!(event_key = key.as_str(), "dead letter delivered again and returned to the inbox");
        }
        Accepted::RevivedConflict => {
            tracing::warn!(
                event_key = key.as_str(),
                "dead letter delivered again with another body and returned to the inbox; the first body stands"
            );
        }
        Accepted::Conflict => {
            tracing::warn!(event_key = key.as_str(), "event delivered again with another body; the first body stands");
        }
        Accepted::Stored | Accepted::Duplicate | Accepted::AlreadyBackfilled => {}
    }
    let answer = Answer::Acknowledged(Acknowledgement::of(accepted, place), key);
    span.set("truenroll.answer", answer.label());
    span.end(None);
    answer
}

/// Answers a request that this backend would reject.
///
/// The sender sends an event only once, and Envoy retries no 4xx answer. So an event that the filter
/// has accepted or quarantined is answered 503: another backend may be able to read it.
fn unreadable(context: &Context, judgement: Judgement<'_>, rejection: Rejection) -> Answer {
    match judgement.mark {
        Mark::Accepted | Mark::Quarantined => {
            context.log.unreadable_event(&rejection, judgement.build);
            Answer::NewerFilter
        }
        Mark::Shadowed(_) | Mark::Probe | Mark::Unknown(_) => Answer::Rejected(rejection),
    }
}

/// Parses a body again that the filter has already judged, because the filter may have been built
/// from another version of the contract.
fn parse<'a>(judgement: Judgement<'_>, body: &'a [u8]) -> Result<Verdict<'a>, Rejection> {
    // A probe is guardctl's question about a proof. Only `prove` answers it, and the filter has not
    // judged its body.
    if judgement.mark == Mark::Probe {
        return Err(Rejection::new(Code::NotFound));
    }
    match Verdict::parse(body)? {
        // A newer filter may accept an event that this backend does not know. In quarantine it waits
        // for a backend that does.
        unknown @ Verdict::Quarantine(_) if matches!(judgement.mark, Mark::Quarantined | Mark::Accepted) => Ok(unknown),
        verdict => Ok(Verdict::Accept(verdict.known()?)),
    }
}

/// Answers `guardctl`, which asks whether this backend knows a proof. Before guardctl publishes a
/// build, it sends the build's proof in `authorization`; without that header, the question is about
/// the filter's own proof. Stores and counts nothing, and leaves readiness alone.
async fn prove(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let candidate = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let judgement = headers.get(headers::JUDGED).map(|value| Judgement::read(value.as_bytes()));
    let shown = candidate.or(judgement.map(|judgement| judgement.proof));
    let mut response = if shown.is_some_and(|proof| context.proofs.knows(proof)) {
        ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"proven"}"#).into_response()
    } else {
        Answer::Unproven.into_response()
    };
    if let Some(judgement) = judgement {
        set_header(&mut response, headers::BUILD, judgement.build);
    }
    response
}
