//! The admin server: liveness, readiness and metrics.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use envelope::Feature;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    inbox::{Contents, DeadLetterCounts, Inbox, InboxError},
    partner_api::PartnerApi,
    proofs::Proofs,
    telemetry::{FailureLabels, FeatureLabels, METRICS_MEDIA_TYPE, Metrics},
    time::to_millis,
};

/// What the routes use.
#[derive(Clone)]
pub(crate) struct Context {
    /// The inbox. The backend is ready only if a Redis server answers.
    pub(crate) inbox: Inbox,
    /// The Partner API's client, whose state the metrics show.
    pub(crate) api: PartnerApi,
    /// The metrics to expose.
    pub(crate) metrics: Arc<Metrics>,
    /// How many dead letters there are, as last counted.
    pub(crate) dead_letter_counts: Arc<Mutex<DeadLetterCounts>>,
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
    // If Redis does not answer, the gauges keep their last values, since 0 would be wrong.
    let contents = context.inbox.contents().await;
    context.metrics.redis_up.set(contents.is_ok().into());
    if let Ok(contents) = contents {
        show(&contents, context.inbox.partitions(), &context.metrics);
        count_dead_letters(&context, contents.dead_letters).await;
    }
    context.metrics.partner_api_circuit_open.set(context.api.is_circuit_open().into());
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], context.metrics.encode()).into_response()
}

/// Shows in the metrics with which codes there are dead letters, of which there are `total`. If that
/// cannot be counted in time, the gauges keep their last values.
async fn count_dead_letters(Context { inbox, metrics, dead_letter_counts, .. }: &Context, total: u64) {
    // If another request for the metrics is already counting, this one leaves the counting to it.
    let Ok(mut counts) = dead_letter_counts.try_lock() else { return };
    for (code, number) in counts.update(inbox, total).await.into_iter().flatten() {
        metrics.dead_letter_entries.get_or_create(&FailureLabels { code }).set(number.cast_signed());
    }
}

/// Shows in the metrics what the inbox holds.
fn show(contents: &Contents, partitions: u32, metrics: &Metrics) {
    metrics.inbox_entries.set(contents.pending.cast_signed());
    metrics.quarantine_entries.set(contents.quarantined.cast_signed());
    metrics.history_entries.set(contents.history.cast_signed());
    metrics.partitions_unowned.set(partitions.saturating_sub(contents.owned).into());
    for (feature, oldest) in Feature::ALL.iter().zip(contents.oldest) {
        let labels = FeatureLabels { feature: feature.as_str() };
        match oldest {
            Some(oldest) => _ = metrics.oldest_event.get_or_create(&labels).set(to_millis(oldest) as f64 / 1_000.0),
            None => _ = metrics.oldest_event.remove(&labels),
        }
    }
}
