//! What the types of the settings do not say: ranges, syntax, and relations between settings.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use envelope::Feature;

use super::{Config, ConfigError, SinkKind, Telemetry, Topology};
use crate::{http_client, time::duration_millis};

type Check = Result<(), ConfigError>;

/// The longest `ingest.store_timeout_ms`. Below the `per_try_timeout` of Envoy's bootstrap, so that
/// the backend answers before Envoy sends the event again.
pub(super) const LONGEST_STORE_TIMEOUT_MS: u64 = 4_500;

/// The longest timeout of a call, of the wait for Redis at start, and of a suspension of calls.
pub(super) const LONGEST_CALL_MS: u64 = 600_000;
/// The most secrets that can sign outcomes at once, and the most API keys. A receiver may limit the
/// signatures it verifies, and a call may have to try each key.
const MOST_SECRETS: usize = 5;
/// The largest `partner_api.max_response_bytes` if outcomes are added to Redis, whose own limit is
/// 512 MiB.
const LARGEST_IN_REDIS: u64 = 500 << 20;
const DAY_MS: u64 = 86_400_000;
const WEEK_S: u64 = 604_800;
const YEAR_S: u64 = 31_536_000;
const TEN_YEARS_IN_DAYS: u32 = 3_650;

impl Config {
    /// Checks all settings.
    pub(super) fn check(&self) -> Check {
        self.check_ingest()?;
        self.check_console()?;
        self.check_redis()?;
        self.check_worker()?;
        self.check_partner_api()?;
        self.check_reconciler()?;
        self.check_sink()?;
        self.check_doctor()?;
        self.check_telemetry()?;
        self.check_attempt_timeout()
    }

    fn check_ingest(&self) -> Check {
        address("ingest.listen", &self.ingest.listen)?;
        address("admin.listen", &self.admin.listen)?;
        let proofs = || self.ingest.proof.reveal().split_whitespace();
        ensure(proofs().next().is_some(), "ingest.proof", "is missing: set it to the filter's proof")?;
        let are_proofs = proofs().all(|proof| proof.len() >= 16 && !proof.contains(';'));
        let problem = "must be at least 16 characters, none of them a semicolon, as in the filter's configuration";
        ensure(are_proofs, "ingest.proof", problem)?;
        within_ms("ingest.store_timeout_ms", self.ingest.store_timeout, 1..=LONGEST_STORE_TIMEOUT_MS)?;
        within("ingest.max_body_bytes", self.ingest.max_body_bytes, 1..=1 << 20)
    }

    fn check_console(&self) -> Check {
        let console = &self.console;
        let credentials =
            console.credentials().map_err(|problem| ConfigError::invalid("console.credentials", problem))?;
        if console.listen.is_empty() {
            return Ok(());
        }
        let is_local = address("console.listen", &console.listen)?.ip().is_loopback();
        let problem = "is missing: unless `console.listen` is a loopback address, set it to who may use the console";
        ensure(is_local || !credentials.is_empty(), "console.credentials", problem)
    }

    fn check_redis(&self) -> Check {
        let redis = &self.redis;
        let servers = redis.urls().count();
        ensure(servers > 0, "redis.url", "is missing: set it to the URL of the Redis server")?;
        let is_single = redis.topology == Topology::Single;
        ensure(!is_single || servers == 1, "redis.url", "names several servers, but `redis.topology` is \"single\"")?;
        let has_primary = redis.topology != Topology::Sentinel || !redis.sentinel_primary.is_empty();
        let problem = "is missing: set it to the name under which the sentinels know the primary";
        ensure(has_primary, "redis.sentinel_primary", problem)?;
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_prefix = (1..=32).contains(&redis.prefix.len()) && redis.prefix.bytes().all(is_allowed);
        ensure(is_prefix, "redis.prefix", "must be 1 to 32 characters from a-z, 0-9 and -")?;
        within("redis.partitions", redis.partitions, 1..=1024)?;
        within_ms("redis.start_timeout_ms", redis.start_timeout, 0..=LONGEST_CALL_MS)?;
        within("redis.unhandled_retention_days", redis.unhandled_retention_days, 0..=TEN_YEARS_IN_DAYS)?;
        within("redis.seen_retention_days", redis.seen_retention_days, 1..=TEN_YEARS_IN_DAYS)?;
        within("history.retention_days", self.history.retention_days, 1..=TEN_YEARS_IN_DAYS)?;
        within("history.max_events", self.history.max_events, 1_000..=1_000_000_000)
    }

    fn check_worker(&self) -> Check {
        let worker = &self.worker;
        within("worker.parallelism", worker.parallelism, 1..=100_000)?;
        within("worker.window", worker.window, 1..=100_000)?;
        within_ms("worker.lease_ms", worker.lease, 1_000..=60_000)?;
        within_s("worker.give_up_after_s", worker.give_up_after, 0..=YEAR_S)?;
        within("worker.min_attempts", worker.min_attempts, 1..=1_000)?;
        within_ms("worker.backoff_cap_ms", worker.backoff_cap, 1..=DAY_MS)?;
        within_ms("worker.backoff_base_ms", worker.backoff_base, 1..=duration_millis(worker.backoff_cap))?;
        within_s("handler.wait_for_case_s", self.handler.wait_for_case, 0..=WEEK_S)
    }

    fn check_partner_api(&self) -> Check {
        let api = &self.partner_api;
        check_url("partner_api.base_url", &api.base_url)?;
        let number = api.api_key.parts().count();
        ensure(number > 0, "partner_api.api_key", "is missing: set it to the key that TruEnroll gave you")?;
        let are_headers = api.api_key.parts().all(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
        let problem = format!(
            "must be at most {MOST_SECRETS} keys, separated by white space, each of them visible ASCII characters"
        );
        ensure(number <= MOST_SECRETS && are_headers, "partner_api.api_key", &problem)?;
        within_ms("partner_api.timeout_ms", api.timeout, 1..=LONGEST_CALL_MS)?;
        within("partner_api.max_response_bytes", api.max_response_bytes, 1..=1 << 30)?;
        let is_directory = api.spool_folder.is_empty() || Path::new(&api.spool_folder).is_dir();
        ensure(is_directory, "partner_api.spool_folder", "is not an existing directory")?;
        within("partner_api.max_concurrent", api.max_concurrent, 1..=10_000)?;
        within("partner_api.rate_per_second", api.rate_per_second, 0.1..=100_000.0)?;
        within("partner_api.unknown_share", api.unknown_share, 0.001..=1.0)?;
        within("partner_api.breaker_failures", api.breaker_failures, 1..=1_000_000)?;
        within_ms("partner_api.breaker_open_ms", api.breaker_open, 1..=LONGEST_CALL_MS)?;
        within("partner_api.paging.size", api.paging.size, 2..=100)
    }

    fn check_reconciler(&self) -> Check {
        within_s("reconciler.interval_s", self.reconciler.interval, 0..=WEEK_S)?;
        within_s("reconciler.grace_s", self.reconciler.grace, 0..=WEEK_S)?;
        within_s("reconciler.round_timeout_s", self.reconciler.round_timeout, 1..=WEEK_S)
    }

    fn check_sink(&self) -> Check {
        let sink = &self.sink;
        within_ms("sink.timeout_ms", sink.timeout, 1..=LONGEST_CALL_MS)?;
        if sink.kind == SinkKind::Http {
            for feature in Feature::ALL {
                check_url("sink.url", sink.url_for(feature))?;
            }
        }
        if sink.kind == SinkKind::Redis {
            let problem = "is missing: set it to the URL of the Redis server with the application's stream";
            ensure(!sink.redis_url.reveal().is_empty(), "sink.redis_url", problem)?;
            let longest = self.partner_api.max_response_bytes;
            within("partner_api.max_response_bytes", longest, 1..=LARGEST_IN_REDIS)?;
        }
        within("sink.max_length", sink.max_length, 1..=1_000_000_000)?;
        // The keys of the inbox begin with a brace.
        let is_name = (1..=128).contains(&sink.stream.len()) && sink.stream.bytes().all(|byte| byte.is_ascii_graphic());
        let problem = "must be 1 to 128 visible ASCII characters, of which the first is not a brace";
        ensure(is_name && !sink.stream.starts_with('{'), "sink.stream", problem)?;
        // White space alone is not a way to leave outcomes unsigned.
        let is_empty = sink.secret.reveal().is_empty();
        let is_number = |number| number <= MOST_SECRETS && (number == 0) == is_empty;
        let are_keys = sink.signing_keys().is_ok_and(|keys| is_number(keys.len()));
        let problem = format!(
            "must be at most {MOST_SECRETS} secrets, separated by white space, each of them `whsec_` followed by 24 to \
             64 bytes in base64"
        );
        ensure(are_keys, "sink.secret", &problem)
    }

    fn check_doctor(&self) -> Check {
        let url = &self.doctor.envoy_url;
        if url.is_empty() { Ok(()) } else { check_url("doctor.envoy_url", url) }
    }

    fn check_telemetry(&self) -> Check {
        within("telemetry.sampling", self.telemetry.sampling, 0.0..=1.0)?;
        let page = &self.telemetry.trace_url;
        if !page.is_empty() {
            check_url("telemetry.trace_url", page)?;
            let problem = "must contain {trace_id}, where the identifier of a trace is to be inserted";
            ensure(page.contains(Telemetry::TRACE_ID), "telemetry.trace_url", problem)?;
        }
        within_ms("telemetry.otlp_timeout_ms", self.telemetry.otlp_timeout, 1..=LONGEST_CALL_MS)?;
        let endpoint = &self.telemetry.otlp_endpoint;
        if endpoint.is_empty() {
            return Ok(());
        }
        check_url("telemetry.otlp_endpoint", endpoint)?;
        let problem = "must be the base URL alone: without a query, and without white space around it";
        let is_base = self.telemetry.is_whole_url || !endpoint.contains(['?', '#']);
        let is_url = is_base && !endpoint.contains(char::is_whitespace);
        ensure(is_url, "telemetry.otlp_endpoint", problem)?;
        let problem = "is set (perhaps as OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), but this \
                       program was built without traces: build it with `--features otlp`, as the images are, or \
                       leave the setting empty";
        ensure(cfg!(feature = "otlp"), "telemetry.otlp_endpoint", problem)
    }

    /// An attempt may call the Partner API and then the application.
    fn check_attempt_timeout(&self) -> Check {
        let calls = self.partner_api.timeout + self.sink.timeout;
        if self.worker.attempt_timeout >= calls {
            return Ok(());
        }
        let value = self.worker.attempt_timeout.as_millis();
        let least = calls.as_millis();
        let problem =
            format!("is {value}, but must be at least `partner_api.timeout_ms` plus `sink.timeout_ms`, {least} ms");
        Err(ConfigError::invalid("worker.attempt_timeout_ms", problem))
    }
}

fn address(key: &'static str, address: &str) -> Result<SocketAddr, ConfigError> {
    let problem = || format!("is `{address}`, but must be an IP address and a port, such as 127.0.0.1:8081");
    address.parse().map_err(|_| ConfigError::invalid(key, problem()))
}

fn check_url(key: &'static str, url: &str) -> Check {
    http_client::check_url(url).map_err(|problem| ConfigError::invalid(key, problem))
}

fn within_ms(key: &'static str, value: Duration, range: RangeInclusive<u64>) -> Check {
    in_range(key, duration_millis(value), range, " ms")
}

fn within_s(key: &'static str, value: Duration, range: RangeInclusive<u64>) -> Check {
    in_range(key, value.as_secs(), range, " s")
}

fn within<T: PartialOrd + Display>(key: &'static str, value: T, range: RangeInclusive<T>) -> Check {
    in_range(key, value, range, "")
}

fn in_range<T: PartialOrd + Display>(key: &'static str, value: T, range: RangeInclusive<T>, unit: &str) -> Check {
    if range.contains(&value) {
        return Ok(());
    }
    let problem = format!("is {value}, but must be {} to {}{unit}", range.start(), range.end());
    Err(ConfigError::invalid(key, problem))
}

fn ensure(holds: bool, key: &'static str, problem: &str) -> Check {
    if holds { Ok(()) } else { Err(ConfigError::invalid(key, problem)) }
}
