//! The configuration: compiled-in defaults, then a file, then the environment; read once and checked as a whole.

#![allow(missing_docs, reason = "`config.default.toml` documents each setting")]

use std::{fs, path::Path, time::Duration};

use config::{Environment, File, FileFormat, Source as _};
use envelope::Feature;
use serde::Deserialize;

mod check;
mod secret;
mod text;

pub use secret::Secret;

const DEFAULTS: &str = include_str!("../config.default.toml");

/// Everything that can be set. `config.default.toml` says what each setting means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub ingest: Ingest,
    pub admin: Admin,
    pub redis: Redis,
    pub worker: Worker,
    pub handler: Handler,
    pub partner_api: PartnerApi,
    pub reconciler: Reconciler,
    pub sink: Sink,
    pub log: Log,
    pub shutdown: Shutdown,
}

/// `[ingest]`
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

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub listen: String,
}

/// `[redis]`
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
}

/// How the servers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// There is one, and it stays where it is.
    Single,
    /// Sentinels say which one is the primary.
    Sentinel,
    /// A Redis Cluster, whose servers say who holds which slot.
    Cluster,
}

/// What must be true before an event counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Durability {
    /// The server has it on disk.
    Fsync,
    /// The server and so many replicas of it have it, in memory at least.
    Replicas(u8),
    /// The server has it in memory.
    Memory,
}

impl TryFrom<String> for Durability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let replicas = || text.strip_prefix("replicas:")?.parse().ok().filter(|number| (1..=9).contains(number));
        match text.as_str() {
            "fsync" => Ok(Self::Fsync),
            "memory" => Ok(Self::Memory),
            _ => replicas().map(Self::Replicas).ok_or_else(|| {
                format!("`redis.durability` is `{text}`; it must be fsync, memory, or replicas:N with N from 1 to 9")
            }),
        }
    }
}

/// `[worker]`
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

/// `[handler]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    #[serde(rename = "wait_for_case_s", deserialize_with = "seconds")]
    pub wait_for_case: Duration,
}

/// `[partner_api]`
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

/// `[partner_api.paging]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    pub size: usize,
    pub size_parameter: String,
    pub skip_parameter: String,
}

/// `[reconciler]`
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

/// `[sink]`
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
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
}

/// Where results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// A line in the log, without the result.
    Log,
    /// The partner's application.
    Http,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[shutdown]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(rename = "grace_ms", deserialize_with = "millis")]
    pub grace: Duration,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source cannot be read, or a value has the wrong type. The message names the setting and the source.
    #[error("configuration: {0}")]
    Unreadable(#[from] config::ConfigError),
    /// A text is not written as one. The message does not show it, since it may be a secret.
    #[error("configuration: `{key}` is text, but is written as {written} in {file}: put it in quotes")]
    Unquoted {
        /// The setting.
        key: String,
        /// How it is written.
        written: &'static str,
        /// In which file.
        file: String,
    },
    /// A value is not allowed.
    #[error("configuration: `{key}` {problem} (set it in the file or as {})", environment_name(key))]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Config {
    /// Reads the defaults, then `file` where there is one, then the environment, and checks the whole.
    ///
    /// # Errors
    /// The first setting that is unknown, missing, of the wrong type or out of its range.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_sources(file, Environment::with_prefix("BACKEND"))
    }

    fn from_sources(file: Option<&Path>, environment: Environment) -> Result<Self, ConfigError> {
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let mut sources = config::Config::builder().add_source(defaults.clone());
        if let Some(file) = file {
            let file = File::from(file).format(FileFormat::Toml);
            text::ensure_quoted(&defaults.collect()?, &file.collect()?)?;
            sources = sources.add_source(file);
        }
        // Without parsing: what is text stays as it is, and a number is read from the text where one is wanted.
        let environment = environment.prefix_separator("__").separator("__");
        let sources = sources.add_source(environment).build()?;
        check::ensure_not_removed(&sources)?;
        let mut config: Self = sources.try_deserialize()?;
        config.read_secrets()?;
        config.check()?;
        Ok(config)
    }

    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        for (key, file, secret) in [
            ("ingest.proof_file", &self.ingest.proof_file, &mut self.ingest.proof),
            ("redis.url_file", &self.redis.url_file, &mut self.redis.url),
            ("redis.sentinel_password_file", &self.redis.sentinel_password_file, &mut self.redis.sentinel_password),
            ("partner_api.api_key_file", &self.partner_api.api_key_file, &mut self.partner_api.api_key),
            ("sink.secret_file", &self.sink.secret_file, &mut self.sink.secret),
        ] {
            if !file.is_empty() {
                let text = fs::read_to_string(file)
                    .map_err(|error| ConfigError::Invalid { key, problem: format!("cannot be read: {error}") })?;
                *secret = Secret::new(text.trim_end());
            }
        }
        Ok(())
    }
}

impl Redis {
    /// The servers that are named.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.reveal().split_whitespace()
    }
}

impl Sink {
    /// The URL that a feature's results are posted to; empty where there is none.
    pub fn url_for(&self, feature: Feature) -> &str {
        let own = match feature {
            Feature::Classification => &self.classification_url,
            Feature::Extraction => &self.extraction_url,
            Feature::Forensics => &self.forensics_url,
            Feature::Translation => &self.translation_url,
        };
        if own.is_empty() { &self.url } else { own }
    }
}

fn environment_name(key: &str) -> String {
    format!("BACKEND__{}", key.replace('.', "__").to_uppercase())
}

fn millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
