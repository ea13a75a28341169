//! The metrics of the backend.

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use super::{EventLabels, ExpiredLabels, FailureLabels, FeatureLabels, HandledLabels, IngestLabels};

/// What all names begin with.
const PREFIX: &str = "truenroll_backend";

/// The media type of [`Metrics::encode`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond to five seconds: an answer of the ingest.
const ANSWER_SECONDS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// From ten milliseconds to two hours: an event that may wait for retries.
const EVENT_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// All metrics, registered.
pub struct Metrics {
    registry: Registry,
    /// `truenroll_backend_ingest_total`: requests to the ingest.
    pub ingest: Family<IngestLabels, Counter>,
    /// `truenroll_backend_ingest_seconds`: time from the end of a request's body to its answer.
    pub ingest_seconds: Histogram,
    /// `truenroll_backend_handled_total`: events that were handled and whose outcome, if any, was
    /// delivered.
    pub handled: Family<HandledLabels, Counter>,
    /// `truenroll_backend_retries_total`: attempts that will be repeated.
    pub retries: Family<FailureLabels, Counter>,
    /// `truenroll_backend_dead_letters_total`: events that became dead letters.
    pub dead_letters: Family<FailureLabels, Counter>,
    /// `truenroll_backend_expired_total`: dead letters and quarantined events that were deleted
    /// after `redis.unhandled_retention_days`.
    pub expired: Family<ExpiredLabels, Counter>,
    /// `truenroll_backend_backfilled_total`: events that never arrived and were backfilled.
    pub backfilled_events: Family<EventLabels, Counter>,
    /// `truenroll_backend_inbox_entries`: events in the inbox, over all partitions.
    pub inbox_entries: Gauge,
    /// `truenroll_backend_partitions_owned`: partitions whose lease this process holds.
    pub partitions_owned: Gauge,
    /// `truenroll_backend_leases_acquired_total`: leases on partitions that were acquired.
    pub leases_acquired: Counter,
    /// `truenroll_backend_leases_lost_total`: leases on partitions that were lost.
    pub leases_lost: Counter,
    /// `truenroll_backend_feature_paused`: 1 while a feature is paused, otherwise 0.
    pub feature_paused: Family<FeatureLabels, Gauge>,
    /// `truenroll_backend_api_key_rejections_total`: calls that the Partner API rejected with 401.
    pub api_key_rejections: Counter,
    /// `truenroll_backend_end_to_end_seconds`: time from storing an event to the delivery of its
    /// outcome.
    pub end_to_end_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        Self {
            ingest: registered(&mut registry, "ingest", "Requests to the ingest, by answer", Family::default()),
            ingest_seconds: registered(
                &mut registry,
                "ingest_seconds",
                "Time from the end of a request's body to its answer",
                Histogram::new(ANSWER_SECONDS),
            ),
            handled: registered(
                &mut registry,
                "handled",
                "Events that were handled and whose outcome, if any, was delivered",
                Family::default(),
            ),
            retries: registered(&mut registry, "retries", "Attempts that will be repeated", Family::default()),
            dead_letters: registered(
                &mut registry,
                "dead_letters",
                "Events that became dead letters",
                Family::default(),
            ),
            expired: registered(
                &mut registry,
                "expired",
                "Dead letters and quarantined events deleted at the end of their retention",
                Family::default(),
            ),
            backfilled_events: registered(
                &mut registry,
                "backfilled",
                "Events that never arrived and were backfilled",
                Family::default(),
            ),
            inbox_entries: registered(
                &mut registry,
                "inbox_entries",
                "Events in the inbox, over all partitions",
                Gauge::default(),
            ),
            partitions_owned: registered(
                &mut registry,
                "partitions_owned",
                "Partitions whose lease this process holds",
                Gauge::default(),
            ),
            leases_acquired: registered(
                &mut registry,
                "leases_acquired",
                "Leases on partitions that this process acquired",
                Counter::default(),
            ),
            leases_lost: registered(
                &mut registry,
                "leases_lost",
                "Leases on partitions that this process lost",
                Counter::default(),
            ),
            feature_paused: registered(
                &mut registry,
                "feature_paused",
                "1 while a feature is paused",
                Family::default(),
            ),
            api_key_rejections: registered(
                &mut registry,
                "api_key_rejections",
                "Calls that the Partner API rejected with 401",
                Counter::default(),
            ),
            end_to_end_seconds: registered(
                &mut registry,
                "end_to_end_seconds",
                "Time from storing an event to the delivery of its outcome",
                Histogram::new(EVENT_SECONDS),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// Returns all metrics in the OpenMetrics text format, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut metrics = String::new();
        // Writing to a string does not fail.
        _ = text::encode(&mut metrics, &self.registry);
        metrics
    }
}

/// Registers a metric and returns it. Clones share one value.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use envelope::{EventName, Feature, Stage};

    use super::*;

    #[test]
    fn a_handled_event_is_counted_by_its_outcome() {
        let metrics = Metrics::default();
        let event = EventName { feature: Feature::Extraction, stage: Stage::Completed };
        metrics.handled.get_or_create(&HandledLabels::new(event, "result")).inc();
        let expected = r#"truenroll_backend_handled_total{feature="extraction",stage="completed",outcome="result"} 1"#;
        let encoded = metrics.encode();
        assert!(encoded.lines().any(|line| line == expected), "{encoded}");
    }
}
