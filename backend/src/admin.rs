//! For operators: whether we live, whether we are ready, and what we have counted.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio_util::sync::CancellationToken;

use crate::{
    inbox::{Inbox, InboxError},
    proofs::Proofs,
    telemetry::{METRICS_MEDIA_TYPE, Metrics},
};

/// What the routes look at.
#[derive(Clone)]
pub struct Context {
    /// Asked whether it answers.
    pub inbox: Inbox,
    /// Shown.
    pub metrics: Arc<Metrics>,
    /// Asked whether requests show a proof that we know.
    pub proofs: Arc<Proofs>,
    /// We are not ready any more once this is cancelled.
    pub shutdown: CancellationToken,
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

async fn ready(State(context): State<Context>) -> Response {
    if context.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    if context.proofs.is_refusing() {
        let why = "requests arrive with a proof that this backend does not know: `ingest.proof` must hold the one with which \
                   the filter was published\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    match context.inbox.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            let why = match error {
                InboxError::Unfit(problem) => format!("{problem}\n"),
                other => format!("Redis does not answer: {}\n", other.reason()),
            };
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn metrics(State(context): State<Context>) -> Response {
    let mut entries = 0;
    for partition in 0..context.inbox.partitions() {
        match context.inbox.depth(partition).await {
            Ok(depth) => entries += depth,
            // The gauge keeps its last value: no answer is not the same as none waiting.
            Err(_) => return encoded(&context.metrics),
        }
    }
    context.metrics.inbox_entries.set(entries.cast_signed());
    encoded(&context.metrics)
}

fn encoded(metrics: &Metrics) -> Response {
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], metrics.encode()).into_response()
}
