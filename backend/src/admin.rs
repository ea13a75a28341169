//! The admin server: liveness, readiness and metrics.

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

/// What the routes use.
#[derive(Clone)]
pub(crate) struct Context {
    /// The inbox. The backend is ready only if a Redis server answers.
    pub(crate) inbox: Inbox,
    /// The metrics to expose.
    pub(crate) metrics: Arc<Metrics>,
    /// The proofs. The backend is not ready after a request with an unknown proof.
    pub(crate) proofs: Arc<Proofs>,
    /// The shutdown token. The backend is not ready once it is cancelled.
    pub(crate) shutdown: CancellationToken,
}

/// Returns the routes `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

async fn ready(State(context): State<Context>) -> Response {
    match check_ready(&context).await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Returns the reason why the backend is not ready as the error.
async fn check_ready(context: &Context) -> Result<(), String> {
    if context.shutdown.is_cancelled() {
        return Err("shutting down".to_owned());
    }
    if context.proofs.has_recent_unknown_proof() {
        return Err(
            "requests arrive with a proof that this backend does not know: set `ingest.proof` to the proof with \
                    which the filter was published"
                .to_owned(),
        );
    }
    match context.inbox.ping().await {
        Ok(()) => Ok(()),
        Err(InboxError::Unfit(problem)) => Err(problem.to_string()),
        Err(error) => Err(format!("Redis does not answer: {}", error.reason())),
    }
}

async fn metrics(State(context): State<Context>) -> Response {
    // If Redis does not answer, the gauge keeps its last value, since 0 would be wrong.
    if let Ok(entries) = entries(&context.inbox).await {
        context.metrics.inbox_entries.set(entries.cast_signed());
    }
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], context.metrics.encode()).into_response()
}

async fn entries(inbox: &Inbox) -> Result<u64, InboxError> {
    let mut entries = 0;
    for partition in 0..inbox.partitions() {
        entries += inbox.depth(partition).await?;
    }
    Ok(entries)
}
