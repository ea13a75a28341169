//! What the errors say.

use std::io::Write as _;

use super::load;
use crate::config::ConfigError;

#[test]
fn unquoted_text_in_a_file_is_an_error_that_says_so() {
    for value in ["12345678e5", "123456789", "0x1F", "true", "1.50", "inf"] {
        let said = load(&format!("[sink]\nsecret = {value}"), &[]).unwrap_err();
        assert!(said.contains("`sink.secret`") && said.contains(".toml: put it in quotes"), "{said}");
        assert!(!said.contains(value) || value == "true", "{said}");
        let said = load(&format!("[partner_api.paging]\nskip_parameter = {value}"), &[]).unwrap_err();
        assert!(said.contains("`partner_api.paging.skip_parameter`"), "{said}");
    }
}

#[test]
fn an_invalid_setting_is_named() {
    for (file, key) in [
        ("[redis]\npartitions = 0", "redis.partitions"),
        ("[redis]\npartitions = \"many\"", "redis.partitions"),
        ("[redis]\nprefix = \"A\"", "redis.prefix"),
        ("[redis]\nurl = \" \"", "redis.url"),
        ("[redis]\nurl = \"redis://a redis://b\"", "`redis.topology` is \"single\""),
        ("[redis]\ndurability = \"disk\"", "durability"),
        ("[redis]\nhost = \"x\"", "host"),
        ("[ingest]\nlisten = \"8081\"", "ingest.listen"),
        ("[ingest]\nproof_file = \"/missing\"", "ingest.proof_file"),
        ("[ingest]\nstore_timeout_ms = 6000", "ingest.store_timeout_ms"),
        ("[console]\nlisten = \"9091\"", "console.listen"),
        ("[console]\nlisten = \"0.0.0.0:9091\"", "console.credentials"),
        ("[console]\ncredentials = \"ada:hunter2\"", "console.credentials"),
        ("[worker]\nlease_ms = 10", "worker.lease_ms"),
        ("[worker]\nbackoff_cap_ms = 100000000", "worker.backoff_cap_ms"),
        ("[worker]\nattempt_timeout_ms = 1000", "worker.attempt_timeout_ms"),
        ("[worker]\nbackoff_base_ms = 1000000", "worker.backoff_base_ms"),
        ("[partner_api]\nbase_url = \"api.truenroll.com\"", "partner_api.base_url"),
        ("[sink]\nkind = \"http\"", "sink.url"),
        ("[sink]\nkind = \"redis\"", "sink.redis_url"),
        (
            "[sink]\nkind = \"redis\"\nredis_url = \"redis://h\"\n[partner_api]\nmax_response_bytes = 600000000",
            "max_response_bytes",
        ),
        ("[sink]\nstream = \"{edge}:x\"", "sink.stream"),
        ("[sink]\nstream = \"a b\"", "sink.stream"),
        ("[sink]\nmax_length = 0", "sink.max_length"),
        ("[sink]\ndurability = \"disk\"", "`sink.durability`"),
        ("[sink]\nsecret = \"whsec_short\"", "sink.secret"),
        ("[sink]\nsecret = \" \"", "sink.secret"),
        ("[sink]\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw hunter2\"", "sink.secret"),
        ("[telemetry]\notlp_endpoint = \"collector:4318\"", "telemetry.otlp_endpoint"),
        ("[telemetry]\notlp_endpoint = \"http://collector/?a=1\"", "telemetry.otlp_endpoint"),
        ("[telemetry]\notlp_timeout_ms = 0", "telemetry.otlp_timeout_ms"),
        ("[telemetry]\nsampling = 2", "telemetry.sampling"),
        ("[telemetry]\ntrace_url = \"javascript:alert({trace_id})\"", "telemetry.trace_url"),
        ("[telemetry]\ntrace_url = \"http://jaeger/trace/\"", "telemetry.trace_url"),
        ("[log]\nlevel = \"loud\"", "level"),
        ("[sink]\nsecret = \"hunter2", "TOML parse error at line 2, column 18: "),
        ("[sink]\nsecret = hunter2", "TOML parse error at line 2, column 10: "),
        ("[nothing]\nx = 1", "nothing"),
    ] {
        let error = load(file, &[]).unwrap_err();
        assert!(error.contains(key) && !error.contains("hunter2"), "{file}: {error}");
    }
}

#[test]
fn a_file_with_a_secret_must_not_be_empty() {
    for text in ["", " \n"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let error = load("", &[("BACKEND__SINK__SECRET_FILE", &path)]).unwrap_err();
        let expected = format!(
            "configuration: `sink.secret_file` is `{path}`, which is empty (set as BACKEND__SINK__SECRET_FILE)"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn an_error_says_where_the_value_comes_from() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"whsec_short").unwrap();
    let path = secret.path().display().to_string();
    for (file, environment, place) in [
        ("[sink]\nkind = \"http\"", &[][..], "(set it in the file or as BACKEND__SINK__URL)".to_owned()),
        ("", &[("BACKEND__SINK__SECRET", "whsec_short")], "(set as BACKEND__SINK__SECRET)".to_owned()),
        ("", &[("BACKEND__SINK__SECRET_FILE", &path)], format!("(set in {path})")),
        ("[sink]\nsecret = \"whsec_short\"", &[], ".toml)".to_owned()),
    ] {
        let error = load(file, environment).unwrap_err();
        assert!(error.ends_with(&place) && !error.contains("whsec_short"), "{error}");
    }
}

#[test]
fn a_value_out_of_range_is_reported_in_the_units_of_its_setting() {
    for (file, expected) in [
        ("[ingest]\nstore_timeout_ms = 6000", "`ingest.store_timeout_ms` is 6000, but must be 1 to 4500 ms"),
        ("[worker]\nlease_ms = 10", "`worker.lease_ms` is 10, but must be 1000 to 60000 ms"),
        ("[worker]\nbackoff_cap_ms = 100000000", "`worker.backoff_cap_ms` is 100000000, but must be 1 to 86400000 ms"),
        ("[worker]\nbackoff_base_ms = 1000000", "`worker.backoff_base_ms` is 1000000, but must be 1 to 900000 ms"),
        ("[handler]\nwait_for_case_s = 604801", "`handler.wait_for_case_s` is 604801, but must be 0 to 604800 s"),
        ("[redis]\npartitions = 0", "`redis.partitions` is 0, but must be 1 to 1024"),
        ("[partner_api]\nunknown_share = 1.5", "`partner_api.unknown_share` is 1.5, but must be 0.001 to 1"),
        (
            "[worker]\nattempt_timeout_ms = 1000",
            "`worker.attempt_timeout_ms` is 1000, but must be at least `partner_api.timeout_ms` plus `sink.timeout_ms`, \
             60000 ms",
        ),
    ] {
        let error = load(file, &[]).unwrap_err();
        assert!(error.starts_with(&format!("configuration: {expected} (set")), "{file}: {error}");
    }
}

#[test]
fn an_old_environment_variable_is_an_error_that_gives_its_present_name() {
    for (old, new) in [
        ("EDGE__REDIS__URL", "BACKEND__REDIS__URL"),
        ("EDGE__REDIS__APART_RETENTION_DAYS", "BACKEND__REDIS__UNHANDLED_RETENTION_DAYS"),
        ("EDGE__RECONCILER__FIRST_ROUND_COUNTS", "BACKEND__RECONCILER__BACKFILL_FIRST_ROUND"),
        ("EDGE_CONFIG", "BACKEND_CONFIG"),
    ] {
        let error = load("", &[(old, "1")]).unwrap_err();
        assert_eq!(error, format!("configuration: {old} is no longer read: name it {new}"));
    }
    // Variables of `guardctl`.
    assert!(load("", &[("EDGE_DIR", "/var/lib/edge"), ("EDGE_URL", "http://envoy:9902")]).is_ok());
}

#[test]
fn an_old_setting_is_an_error_that_gives_its_present_name() {
    for (section, old, new) in [
        ("redis", "apart_retention_days", "unhandled_retention_days"),
        ("reconciler", "first_round_counts", "backfill_first_round"),
    ] {
        let upper = section.to_uppercase();
        let variable = format!("BACKEND__{upper}__{}", new.to_uppercase());
        let expected = format!(
            "configuration: `{section}.{old}` is no longer read: name it `{section}.{new}` (in the environment {variable})"
        );
        assert_eq!(load(&format!("[{section}]\n{old} = 1"), &[]).unwrap_err(), expected);
        let variable = format!("BACKEND__{upper}__{}", old.to_uppercase());
        assert_eq!(load("", &[(&variable, "1")]).unwrap_err(), expected);
    }
    let error = load("[worker]\nmax_attempts = 24", &[]).unwrap_err();
    assert!(error.contains("`worker.max_attempts` no longer exists: set `worker.give_up_after_s`"), "{error}");
}

#[test]
fn an_error_with_its_causes_says_nothing_twice() {
    let error = ConfigError::from(config::ConfigError::Message("not TOML".to_owned()));
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), "configuration: not TOML");
}
