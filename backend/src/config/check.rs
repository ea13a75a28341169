//! What the settings' types alone do not say, relations between settings among it.

use std::{net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use envelope::{Feature, SigningKey};

use super::{Config, ConfigError, SinkKind, Topology};
use crate::{http_client, inbox};

type Check = Result<(), ConfigError>;

/// Below the `per_try_timeout` of Envoy's bootstrap, so that the backend's answer comes before Envoy sends the event again.
pub(super) const LONGEST_STORE_TIMEOUT: Duration = Duration::from_millis(4_500);

impl Config {
    /// Checks all settings.
    pub(super) fn check(&self) -> Check {
        self.check_ingest()?;
        self.check_redis()?;
        self.check_worker()?;
        self.check_calls()
    }

    fn check_ingest(&self) -> Check {
        for (key, address) in [("ingest.listen", &self.ingest.listen), ("admin.listen", &self.admin.listen)] {
            let problem = || format!("is `{address}`, which is not an address and a port like 127.0.0.1:8081");
            address.parse::<SocketAddr>().map_err(|_| invalid(key, problem()))?;
        }
        let proofs = || self.ingest.proof.reveal().split_whitespace();
        ensure(proofs().next().is_some(), "ingest.proof", "is missing: it must be the filter's proof")?;
        let is_proof = proofs().all(|proof| proof.len() >= 16 && !proof.contains(';'));
        ensure(is_proof, "ingest.proof", "must be at least 16 characters without ;, as in the filter's configuration")?;
        let store_timeout = Duration::from_millis(1)..=LONGEST_STORE_TIMEOUT;
        within("ingest.store_timeout_ms", &self.ingest.store_timeout, store_timeout)?;
        within("ingest.max_body_bytes", &self.ingest.max_body_bytes, 1..=1 << 20)
    }

    fn check_redis(&self) -> Check {
        let redis = &self.redis;
        let are_urls = redis.urls().count() > 0 && redis.urls().all(inbox::is_url);
        ensure(are_urls, "redis.url", "is not like redis://[user:password@]host:port/[database] or unix:///path")?;
        let is_one = redis.topology != Topology::Single || redis.urls().count() == 1;
        ensure(is_one, "redis.url", "names several servers, and `redis.topology` is \"single\"")?;
        let is_named = redis.topology != Topology::Sentinel || !redis.sentinel_primary.is_empty();
        ensure(is_named, "redis.sentinel_primary", "is missing: the name that the sentinels know the primary by")?;
        let is_prefix = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good_prefix = (1..=32).contains(&redis.prefix.len()) && redis.prefix.bytes().all(is_prefix);
        ensure(good_prefix, "redis.prefix", "must be 1 to 32 of a-z 0-9 -")?;
        within("redis.partitions", &redis.partitions, 1..=1024)?;
        within("redis.unhandled_retention_days", &redis.unhandled_retention_days, 0..=3_650)?;
        within("redis.seen_retention_days", &redis.seen_retention_days, 1..=3_650)
    }

    fn check_worker(&self) -> Check {
        let worker = &self.worker;
        within("worker.parallelism", &worker.parallelism, 1..=100_000)?;
        within("worker.window", &worker.window, 1..=100_000)?;
        within("worker.lease_ms", &worker.lease, Duration::from_secs(1)..=Duration::from_secs(60))?;
        let (day, year) = (Duration::from_secs(86_400), Duration::from_secs(31_536_000));
        within("worker.give_up_after_s", &worker.give_up_after, Duration::ZERO..=year)?;
        within("worker.min_attempts", &worker.min_attempts, 1..=1_000)?;
        within("worker.backoff_cap_ms", &worker.backoff_cap, Duration::from_millis(1)..=day)?;
        within("handler.wait_for_case_s", &self.handler.wait_for_case, Duration::ZERO..=Duration::from_secs(604_800))?;
        within("worker.backoff_base_ms", &worker.backoff_base, Duration::from_millis(1)..=worker.backoff_cap)?;
        let both = self.partner_api.timeout + self.sink.timeout;
        let problem = "must not be less than partner_api.timeout_ms and sink.timeout_ms together";
        ensure(worker.attempt_timeout >= both, "worker.attempt_timeout_ms", problem)
    }

    fn check_calls(&self) -> Check {
        let api = &self.partner_api;
        check_url("partner_api.base_url", &api.base_url)?;
        let key = api.api_key.reveal();
        ensure(!key.is_empty(), "partner_api.api_key", "is missing: TruEnroll gives it to each partner")?;
        ensure(key.bytes().all(|byte| byte.is_ascii_graphic()), "partner_api.api_key", "must be visible ASCII")?;
        let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(600));
        within("partner_api.timeout_ms", &api.timeout, shortest..=longest)?;
        within("partner_api.max_response_bytes", &api.max_response_bytes, 1..=1 << 30)?;
        let is_folder = api.spool_folder.is_empty() || Path::new(&api.spool_folder).is_dir();
        ensure(is_folder, "partner_api.spool_folder", "is no folder")?;
        within("partner_api.max_concurrent", &api.max_concurrent, 1..=10_000)?;
        within("partner_api.rate_per_second", &api.rate_per_second, 0.1..=100_000.0)?;
        within("partner_api.unknown_share", &api.unknown_share, 0.001..=1.0)?;
        within("partner_api.breaker_failures", &api.breaker_failures, 1..=1_000_000)?;
        within("partner_api.breaker_open_ms", &api.breaker_open, shortest..=longest)?;
        within("partner_api.paging.size", &api.paging.size, 2..=100)?;
        within("reconciler.interval_s", &self.reconciler.interval, Duration::ZERO..=Duration::from_secs(604_800))?;
        within("reconciler.grace_s", &self.reconciler.grace, Duration::ZERO..=Duration::from_secs(604_800))?;
        let week = Duration::from_secs(604_800);
        within("reconciler.round_timeout_s", &self.reconciler.round_timeout, Duration::from_secs(1)..=week)?;
        within("sink.timeout_ms", &self.sink.timeout, shortest..=longest)?;
        if self.sink.kind == SinkKind::Http {
            for feature in Feature::ALL {
                check_url("sink.url", self.sink.url_for(feature))?;
            }
        }
        let secret = self.sink.secret.reveal();
        let signs = secret.is_empty() || SigningKey::parse(secret).is_ok();
        ensure(signs, "sink.secret", "must be `whsec_` and 24 to 64 bytes in base64")
    }
}

/// Settings that existed once, each with what replaces it.
const REMOVED: [(&str, &str); 1] =
    [("worker.max_attempts", "no longer exists: set `worker.give_up_after_s` and `worker.min_attempts` instead")];

/// Checks that no setting is used that was replaced by another.
pub(super) fn ensure_not_removed(sources: &config::Config) -> Check {
    let used = REMOVED.iter().find(|(key, _)| sources.get::<config::Value>(key).is_ok());
    used.map_or(Ok(()), |&(key, problem)| Err(invalid(key, problem)))
}

fn check_url(key: &'static str, url: &str) -> Check {
    http_client::check_url(url).map_err(|problem| invalid(key, problem))
}

fn within<T: PartialOrd + std::fmt::Debug>(key: &'static str, value: &T, range: RangeInclusive<T>) -> Check {
    let problem = || format!("is {value:?}, and must be from {:?} to {:?}", range.start(), range.end());
    if range.contains(value) { Ok(()) } else { Err(invalid(key, problem())) }
}

fn ensure(holds: bool, key: &'static str, problem: &str) -> Check {
    if holds { Ok(()) } else { Err(invalid(key, problem)) }
}

fn invalid(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { key, problem: problem.into() }
}
