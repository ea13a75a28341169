//! The settings, section by section.
#![allow(missing_docs, reason = "`config.default.toml` documents each setting")]

use std::time::Duration;

use envelope::{Feature, InvalidSecret, SigningKey};
use serde::Deserialize;

use super::{Credential, Secret};

/// The settings in `[ingest]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    pub listen: String,
    pub proof: Secret,
    pub proof_file: String,
    pub max_body_bytes: usize,
    #[serde(rename = "store_timeout_ms", deserialize_with = "millis")]
    pub store_timeout: Duration,
}

/// The settings in `[admin]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub listen: String,
}

/// The settings in `[console]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    pub listen: String,
    pub hosts: String,
    pub credentials: Secret,
    pub credentials_file: String,
}

/// The settings in `[redis]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: Secret,
    pub url_file: String,
    pub topology: Topology,
    pub sentinel_primary: String,
    pub sentinel_password: Secret,
    pub sentinel_password_file: String,
    pub prefix: String,
    pub partitions: u32,
    pub seen_retention_days: u32,
    pub unhandled_retention_days: u32,
    pub durability: Durability,
    pub check_server: bool,
    #[serde(rename = "start_timeout_ms", deserialize_with = "millis")]
    pub start_timeout: Duration,
}

/// The settings in `[history]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub enabled: bool,
    pub retention_days: u32,
    pub max_events: u64,
}

/// How the backend finds the Redis servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server at a fixed address.
    Single,
    /// Sentinels name the primary.
    Sentinel,
    /// A Redis Cluster, whose servers say which of them holds a slot.
    Cluster,
}

/// The condition under which an event counts as stored, or an outcome as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Durability {
    /// It is on the server's disk.
    Fsync,
    /// It is in the memory of the server and of this number of its replicas.
    Replicas(u8),
    /// It is in the server's memory.
    Memory,
}

impl TryFrom<String> for Durability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "fsync" => return Ok(Self::Fsync),
            "memory" => return Ok(Self::Memory),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("replicas:")
            && let Ok(replicas @ 1..=9) = number.parse()
        {
            return Ok(Self::Replicas(replicas));
        }
        Err(format!(
            "`redis.durability` or `sink.durability` is `{text}`, but must be fsync, memory, or replicas:N with N from 1 to 9"
        ))
    }
}

/// The settings in `[worker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub parallelism: usize,
    pub window: usize,
    #[serde(rename = "lease_ms", deserialize_with = "millis")]
    pub lease: Duration,
    #[serde(rename = "attempt_timeout_ms", deserialize_with = "millis")]
    pub attempt_timeout: Duration,
    #[serde(rename = "give_up_after_s", deserialize_with = "seconds")]
    pub give_up_after: Duration,
    pub min_attempts: u32,
    #[serde(rename = "backoff_base_ms", deserialize_with = "millis")]
    pub backoff_base: Duration,
    #[serde(rename = "backoff_cap_ms", deserialize_with = "millis")]
    pub backoff_cap: Duration,
}

/// The settings in `[handler]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    #[serde(rename = "wait_for_case_s", deserialize_with = "seconds")]
    pub wait_for_case: Duration,
}

/// The settings in `[partner_api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerApi {
    pub base_url: String,
    pub api_key: Secret,
    pub api_key_file: String,
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    pub max_response_bytes: u64,
    pub spool_folder: String,
    pub max_concurrent: usize,
    pub rate_per_second: f64,
    pub unknown_share: f64,
    pub breaker_failures: u32,
    #[serde(rename = "breaker_open_ms", deserialize_with = "millis")]
    pub breaker_open: Duration,
    pub paging: Paging,
}

/// The settings in `[partner_api.paging]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    pub size: usize,
    pub size_parameter: String,
    pub skip_parameter: String,
    pub external_id_parameter: String,
}

/// The settings in `[reconciler]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconciler {
    #[serde(rename = "interval_s", deserialize_with = "seconds")]
    pub interval: Duration,
    #[serde(rename = "grace_s", deserialize_with = "seconds")]
    pub grace: Duration,
    #[serde(rename = "round_timeout_s", deserialize_with = "seconds")]
    pub round_timeout: Duration,
    pub backfill_first_round: bool,
    pub policy_file: String,
}

/// The settings in `[sink]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    pub kind: SinkKind,
    pub url: String,
    pub classification_url: String,
    pub extraction_url: String,
    pub forensics_url: String,
    pub translation_url: String,
    pub secret: Secret,
    pub secret_file: String,
    pub redis_url: Secret,
    pub redis_url_file: String,
    pub stream: String,
    pub max_length: u64,
    pub durability: Durability,
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
}

/// The destination of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// The log: one line for each outcome, without the outcome.
    Log,
    /// The partner's application.
    Http,
    /// A stream in Redis that the partner's application reads.
    Redis,
}

/// The settings in `[doctor]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    pub envoy_url: String,
}

/// The settings in `[log]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The settings in `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub otlp_endpoint: String,
    /// Whether `otlp_endpoint` is the whole URL.
    #[serde(skip)]
    pub is_whole_url: bool,
    #[serde(rename = "otlp_timeout_ms", deserialize_with = "millis")]
    pub otlp_timeout: Duration,
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without traces there is no service to name"))]
    pub service_name: String,
    pub sampling: f64,
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without traces there is none to continue"))]
    pub continue_traces: bool,
    pub trace_url: String,
}

/// The settings in `[shutdown]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(rename = "grace_ms", deserialize_with = "millis")]
    pub grace: Duration,
}

impl Redis {
    /// Returns the URLs of the configured servers.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.reveal().split_whitespace()
    }
}

impl Telemetry {
    /// What stands for the identifier of a trace in `trace_url`.
    pub const TRACE_ID: &str = "{trace_id}";

    /// Returns the URL of a page that shows a trace, if `trace_url` is set.
    pub fn page_of(&self, trace_id: &str) -> Option<String> {
        (!self.trace_url.is_empty()).then(|| self.trace_url.replace(Self::TRACE_ID, trace_id))
    }

    /// Returns the URL that spans are posted to, or `None` if none are exported.
    #[cfg(any(test, feature = "otlp"))]
    pub fn traces_url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.trim_end_matches('/');
        match (endpoint, self.is_whole_url) {
            ("", _) => None,
            (_, true) => Some(self.otlp_endpoint.clone()),
            (base, false) => Some(format!("{base}/v1/traces")),
        }
    }
}

impl Console {
    /// Returns who may use the console.
    ///
    /// # Errors
    /// Says what is wrong with the first invalid entry, without showing it.
    pub fn credentials(&self) -> Result<Vec<Credential>, String> {
        self.credentials.reveal().split_whitespace().map(str::parse).collect()
    }
}

impl Sink {
    /// Returns the keys that sign outcomes, newest first; none if outcomes are not signed.
    ///
    /// # Errors
    /// If one of the secrets is invalid.
    pub fn signing_keys(&self) -> Result<Vec<SigningKey>, InvalidSecret> {
        self.secret.parts().map(SigningKey::parse).collect()
    }

    /// Returns the URL that outcomes of a feature are posted to, or an empty string if there is
    /// none.
    pub fn url_for(&self, feature: Feature) -> &str {
        let url = match feature {
            Feature::Classification => &self.classification_url,
            Feature::Extraction => &self.extraction_url,
            Feature::Forensics => &self.forensics_url,
            Feature::Translation => &self.translation_url,
        };
        if url.is_empty() { &self.url } else { url }
    }
}

fn millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}
