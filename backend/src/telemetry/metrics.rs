//! The metrics of the backend.

use std::sync::atomic::AtomicU64;

use envelope::EventName;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use super::{
    BuildLabels, CallLabels, EventLabels, ExpiredLabels, FailureLabels, FeatureLabels, HandledLabels, IngestLabels,
    ReloadLabels, process::Process,
};

/// What all names begin with.
const PREFIX: &str = "truenroll_backend";

/// The media type of [`Metrics::encode`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond to five seconds: an answer of the ingest.
const ANSWER_SECONDS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// From ten milliseconds to two hours: an event that may wait for retries.
const EVENT_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// From five milliseconds to a minute: a call over the network, or the wait for one.
const CALL_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
/// The answers of the ingest that are exposed before the first one is given, since Prometheus sees
/// no increase in a series that begins with 1.
const ANSWERS: [&str; 4] = ["accepted", "unavailable", "unproven", "newer_filter"];

/// Histograms of the time that calls took.
pub type CallSeconds = Family<CallLabels, Histogram, fn() -> Histogram>;

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
    /// `truenroll_backend_oldest_event_timestamp_seconds`: when the oldest event in the inbox was
    /// stored. Has no value if there is none.
    pub oldest_event: Family<FeatureLabels, Gauge<f64, AtomicU64>>,
    /// `truenroll_backend_dead_letter_entries`: dead letters by code, over all partitions. Has no
    /// values before Redis has answered.
    pub dead_letter_entries: Family<FailureLabels, Gauge>,
    /// `truenroll_backend_quarantine_entries`: events in quarantine, over all partitions.
    pub quarantine_entries: Gauge,
    /// `truenroll_backend_history_entries`: entries of the history, over all partitions.
    pub history_entries: Gauge,
    /// `truenroll_backend_partitions_unowned`: partitions that no backend owns.
    pub partitions_unowned: Gauge,
    /// `truenroll_backend_redis_up`: whether Redis answered when the metrics were last read.
    pub redis_up: Gauge,
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
    /// `truenroll_backend_partner_api_seconds`: how long calls of the Partner API took.
    pub partner_api_seconds: CallSeconds,
    /// `truenroll_backend_partner_api_wait_seconds`: how long calls waited for the limits on calls.
    pub partner_api_wait_seconds: Histogram,
    /// `truenroll_backend_partner_api_circuit_open`: 1 while the circuit breaker is open.
    pub partner_api_circuit_open: Gauge,
    /// `truenroll_backend_sink_seconds`: how long deliveries to the sink took.
    pub sink_seconds: CallSeconds,
    /// `truenroll_backend_config_reloads_total`: configurations that were read again.
    pub config_reloads: Family<ReloadLabels, Counter>,
    /// `truenroll_backend_config_last_reload_successful`: 0 if the last configuration that was read
    /// again was rejected, otherwise 1.
    pub config_last_reload_successful: Gauge,
    /// `truenroll_backend_spans_dropped_total`: spans that were not exported.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without spans, it stays 0"))]
    pub spans_dropped: Counter,
    /// `truenroll_backend_end_to_end_seconds`: time from storing an event to the delivery of its
    /// outcome.
    pub end_to_end_seconds: Histogram,
    /// `truenroll_backend_build_info`: 1, with the version as a label.
    pub build_info: Family<BuildLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process::started_now()));
        let registry = root.sub_registry_with_prefix(PREFIX);
        let metrics = Self {
            ingest: registered(registry, "ingest", "Requests to the ingest, by answer", Family::default()),
            ingest_seconds: registered(
                registry,
                "ingest_seconds",
                "Time from the end of a request's body to its answer",
                Histogram::new(ANSWER_SECONDS),
            ),
            handled: registered(
                registry,
                "handled",
                "Events that were handled and whose outcome, if any, was delivered",
                Family::default(),
            ),
            retries: registered(registry, "retries", "Attempts that will be repeated", Family::default()),
            dead_letters: registered(registry, "dead_letters", "Events that became dead letters", Family::default()),
            expired: registered(
                registry,
                "expired",
                "Dead letters and quarantined events deleted at the end of their retention",
                Family::default(),
            ),
            backfilled_events: registered(
                registry,
                "backfilled",
                "Events that never arrived and were backfilled",
                Family::default(),
            ),
            inbox_entries: registered(
                registry,
                "inbox_entries",
                "Events in the inbox, over all partitions",
                Gauge::default(),
            ),
            oldest_event: registered(
                registry,
                "oldest_event_timestamp_seconds",
                "When the oldest event in the inbox was stored, over all partitions; no value if there is none",
                Family::default(),
            ),
            dead_letter_entries: registered(
                registry,
                "dead_letter_entries",
                "Dead letters that are kept, by code, over all partitions",
                Family::default(),
            ),
            quarantine_entries: registered(
                registry,
                "quarantine_entries",
                "Events in quarantine, over all partitions",
                Gauge::default(),
            ),
            history_entries: registered(
                registry,
                "history_entries",
                "Entries of the history, over all partitions",
                Gauge::default(),
            ),
            partitions_unowned: registered(
                registry,
                "partitions_unowned",
                "Partitions that no backend owns",
                Gauge::default(),
            ),
            redis_up: registered(
                registry,
                "redis_up",
                "1 if Redis answered when these metrics were read",
                Gauge::default(),
            ),
            partitions_owned: registered(
                registry,
                "partitions_owned",
                "Partitions whose lease this process holds",
                Gauge::default(),
            ),
            leases_acquired: registered(
                registry,
                "leases_acquired",
                "Leases on partitions that this process acquired",
                Counter::default(),
            ),
            leases_lost: registered(
                registry,
                "leases_lost",
                "Leases on partitions that this process lost",
                Counter::default(),
            ),
            feature_paused: registered(registry, "feature_paused", "1 while a feature is paused", Family::default()),
            api_key_rejections: registered(
                registry,
                "api_key_rejections",
                "Calls that the Partner API rejected with 401",
                Counter::default(),
            ),
            partner_api_seconds: registered(
                registry,
                "partner_api_seconds",
                "Time that calls of the Partner API took",
                Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            ),
            partner_api_wait_seconds: registered(
                registry,
                "partner_api_wait_seconds",
                "Time that calls of the Partner API waited for the limits on calls",
                Histogram::new(CALL_SECONDS),
            ),
            partner_api_circuit_open: registered(
                registry,
                "partner_api_circuit_open",
                "1 while calls of the Partner API are suspended because they keep failing",
                Gauge::default(),
            ),
            sink_seconds: registered(
                registry,
                "sink_seconds",
                "Time that deliveries of outcomes to the sink took",
                Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            ),
            config_reloads: registered(
                registry,
                "config_reloads",
                "Configurations that were read again, and applied or rejected",
                Family::default(),
            ),
            config_last_reload_successful: registered(
                registry,
                "config_last_reload_successful",
                "0 if the configuration that was last read again was rejected",
                Gauge::default(),
            ),
            spans_dropped: registered(
                registry,
                "spans_dropped",
                "Spans that were not exported to the collector",
                Counter::default(),
            ),
            end_to_end_seconds: registered(
                registry,
                "end_to_end_seconds",
                "Time from storing an event to the delivery of its outcome",
                Histogram::new(EVENT_SECONDS),
            ),
            build_info: registered(
                registry,
                "build_info",
                "1, with the version of the running program as a label",
                Family::default(),
            ),
            registry: root,
        };
        metrics.expose_zeros();
        metrics
    }
}

/// The codes of retries for which there are alerts.
const NEED_ACTION: [&str; 11] = [
    "api_unauthorized",
    "api_forbidden",
    "api_unreadable",
    "api_not_kept",
    "api_held_back",
    "sink_unreadable",
    "sink_full",
    "sink_unauthorized",
    "sink_moved",
    "sink_not_durable",
    "sink_wrong_type",
];

impl Metrics {
    /// Returns all metrics in the OpenMetrics text format, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut metrics = String::new();
        // Writing to a string does not fail.
        _ = text::encode(&mut metrics, &self.registry);
        metrics
    }

    /// Exposes the series that alerts watch for an increase, before there is one.
    fn expose_zeros(&self) {
        for answer in ANSWERS {
            _ = self.ingest.get_or_create(&IngestLabels { answer });
        }
        for event in EventName::all() {
            _ = self.backfilled_events.get_or_create(&event.into());
        }
        for from in ["dead", "quarantine"] {
            _ = self.expired.get_or_create(&ExpiredLabels { from });
        }
        for code in NEED_ACTION {
            _ = self.retries.get_or_create(&FailureLabels { code });
        }
        for result in ["applied", "rejected"] {
            _ = self.config_reloads.get_or_create(&ReloadLabels { result });
        }
        self.config_last_reload_successful.set(1);
        self.build_info.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
    }
}

/// Registers a metric and returns it. Clones share one value.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use envelope::{Feature, Stage};

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
    /// Prometheus sees no increase in a series that begins with 1.
    #[test]
    fn every_series_that_an_alert_watches_for_an_increase_begins_with_0() {
        let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
        let watched = |metric: &str| -> BTreeSet<String> {
            let selectors = alerts.split(metric).skip(1).filter_map(|rest| rest.strip_prefix('{')?.split('}').next());
            let values = selectors.filter_map(|selector| selector.split('"').nth(1)).flat_map(|text| text.split('|'));
            values.map(str::to_owned).collect()
        };
        let encoded = Metrics::default().encode();
        let exposed = |metric: &str| -> BTreeSet<String> {
            let series = encoded.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
            series.filter_map(|labels| Some(labels.strip_suffix("\"} 0")?.split_once('"')?.1.to_owned())).collect()
        };
        let retries = "truenroll_backend_retries_total";
        assert!(watched(retries).contains("sink_full"), "{:?}", watched(retries));
        assert_eq!(watched(retries), exposed(retries));
        let answers = "truenroll_backend_ingest_total";
        assert!(watched(answers).contains("unproven") && watched(answers).is_subset(&exposed(answers)));
    }
}
