//! What we count and log, with every name in one place. Labels come from closed sets; nothing here is personal data.

mod log_limit;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

use envelope::EventName;

use crate::config::{Log, LogFormat, LogLevel};

pub use log_limit::LogLimit;

/// All metrics, registered.
pub struct Metrics {
    registry: Registry,
    /// `truenroll_backend_ingest_total`: what was brought to us, by our answer.
    pub ingest: Family<IngestLabels, Counter>,
    /// `truenroll_backend_ingest_seconds`: how long storing an event took.
    pub ingest_seconds: Histogram,
    /// `truenroll_backend_handled_total`: events whose handler had an outcome.
    pub handled: Family<EventLabels, Counter>,
    /// `truenroll_backend_delivered_total`: events whose outcome the sink took.
    pub delivered: Family<EventLabels, Counter>,
    /// `truenroll_backend_retries_total`: tries that failed and will be repeated.
    pub retries: Family<FailureLabels, Counter>,
    /// `truenroll_backend_dead_letters_total`: events that became dead letters.
    pub dead_letters: Family<FailureLabels, Counter>,
    /// `truenroll_backend_expired_total`: dead letters and quarantined events that were dropped after `redis.unhandled_retention_days`.
    pub expired: Family<ExpiredLabels, Counter>,
    /// `truenroll_backend_backfilled_total`: events that never came, and that the reconciler made up for.
    pub backfilled_events: Family<EventLabels, Counter>,
    /// `truenroll_backend_inbox_entries`: events that wait or are worked on, over all partitions.
    pub inbox_entries: Gauge,
    /// `truenroll_backend_partitions_owned`: partitions that this process owns.
    pub partitions_owned: Gauge,
    /// `truenroll_backend_feature_paused`: 1 where a feature is not worked on.
    pub feature_paused: Family<FeatureLabels, Gauge>,
    /// `truenroll_backend_end_to_end_seconds`: from storing an event to the sink's taking its outcome.
    pub end_to_end_seconds: Histogram,
}

/// By our answer to the edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IngestLabels {
    /// `accepted`, `revived`, `quarantined`, `duplicate`, `late`, `conflict`, `unavailable`, `unproven` or a rejection's code.
    pub answer: &'static str,
}

/// By event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// The feature.
    pub feature: &'static str,
    /// How its stage ended.
    pub stage: &'static str,
}

/// By feature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FeatureLabels {
    /// The feature.
    pub feature: &'static str,
}

/// By where it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExpiredLabels {
    /// `dead` or `quarantine`.
    pub from: &'static str,
}

/// By what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    /// The error's code.
    pub code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("truenroll_backend");
        let seconds =
            || Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]);
        let minutes = || Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0]);
        let metrics = (seconds(), minutes());
        let all = Self {
            ingest: Family::default(),
            ingest_seconds: metrics.0,
            handled: Family::default(),
            delivered: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            expired: Family::default(),
            backfilled_events: Family::default(),
            inbox_entries: Gauge::default(),
            partitions_owned: Gauge::default(),
            feature_paused: Family::default(),
            end_to_end_seconds: metrics.1,
            registry: Registry::default(),
        };
        registry.register("ingest", "Requests from the edge, by our answer", all.ingest.clone());
        registry.register("ingest_seconds", "How long storing an event took", all.ingest_seconds.clone());
        registry.register("handled", "Events whose handler had an outcome", all.handled.clone());
        registry.register("delivered", "Events whose outcome the sink took", all.delivered.clone());
        registry.register("retries", "Tries that failed and will be repeated", all.retries.clone());
        registry.register("dead_letters", "Events that became dead letters", all.dead_letters.clone());
        registry.register("expired", "Events apart that nobody looked after", all.expired.clone());
        registry.register("backfilled", "Events that never came, made up for", all.backfilled_events.clone());
        registry.register("inbox_entries", "Events that wait or are worked on", all.inbox_entries.clone());
        registry.register("partitions_owned", "Partitions that this process owns", all.partitions_owned.clone());
        registry.register("feature_paused", "1 where a feature is not worked on", all.feature_paused.clone());
        let help = "From storing an event to the sink's taking its outcome";
        registry.register("end_to_end_seconds", help, all.end_to_end_seconds.clone());
        Self { registry, ..all }
    }
}

impl Metrics {
    /// Everything in the OpenMetrics text format, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut metrics = String::new();
        // Writing to a string does not fail.
        _ = text::encode(&mut metrics, &self.registry);
        metrics
    }
}

impl From<EventName> for EventLabels {
    fn from(event: EventName) -> Self {
        Self { feature: event.feature.as_str(), stage: event.stage.as_str() }
    }
}

/// The media type of [`Metrics::encode`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Logs to standard error from now on.
pub fn start_logging(settings: &Log) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    match settings.format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}
