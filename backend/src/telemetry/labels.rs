//! The labels of the metrics.

use envelope::EventName;
use prometheus_client::encoding::EncodeLabelSet;

/// The labels of a request to the ingest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IngestLabels {
    /// `accepted`, `quarantined`, `revived`, `revived_conflict`, `duplicate`, `already_backfilled`,
    /// `conflict`, `unproven`, `unavailable`, `unknown_mark`, `newer_filter` or the code of a
    /// rejection.
    pub answer: &'static str,
}

/// The labels of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// The feature.
    pub feature: &'static str,
    /// `completed` or `failed`.
    pub stage: &'static str,
}

impl From<EventName> for EventLabels {
    fn from(event: EventName) -> Self {
        Self { feature: event.feature.as_str(), stage: event.stage.as_str() }
    }
}

/// The labels of a handled event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandledLabels {
    /// The feature.
    pub feature: &'static str,
    /// `completed` or `failed`.
    pub stage: &'static str,
    /// What was delivered: `result`, `recommendation` or `none`.
    pub outcome: &'static str,
}

impl HandledLabels {
    /// Returns the labels of an event whose handler returned `outcome`.
    pub fn new(event: EventName, outcome: &'static str) -> Self {
        Self { feature: event.feature.as_str(), stage: event.stage.as_str(), outcome }
    }
}

/// The labels of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FeatureLabels {
    /// The feature.
    pub feature: &'static str,
}

/// The labels of an expired event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExpiredLabels {
    /// `dead` for a dead letter, or `quarantine`.
    pub from: &'static str,
}

/// The labels of a reload of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `applied` or `rejected`.
    pub result: &'static str,
}

/// The labels of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    /// The code of the error.
    pub code: &'static str,
}

/// The labels of a call of the Partner API, or of the delivery of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// `ok`, or the code of the error.
    pub code: &'static str,
}

/// The labels of the running program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabels {
    /// The version, as `backend --version` prints it.
    pub version: &'static str,
}
