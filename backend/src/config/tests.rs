use std::{io::Write as _, time::Duration};

use config::Map;

use super::{live::Changes, *};

/// Loads a configuration from the text of a file and from environment variables, or returns the
/// error's message.
fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut settings = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    settings.write_all(file.as_bytes()).unwrap();
    let all = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let variables: Map<String, String> = [
        ("BACKEND__INGEST__PROOF", "0123456789abcdef"),
        ("BACKEND__PARTNER_API__API_KEY", "key"),
        ("BACKEND_CONFIG", "not a setting"),
    ]
    .iter()
    .chain(environment)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    let environment = Environment::with_prefix("BACKEND").source(Some(variables));
    Config::from_sources(Some(settings.path()), environment, all).map_err(|error| error.to_string())
}

#[test]
fn only_the_proof_and_the_api_key_have_no_default() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.redis.partitions, 16);
    assert_eq!(config.worker.lease, Duration::from_secs(10));
    let missing = load("", &[("BACKEND__INGEST__PROOF", "")]).unwrap_err();
    assert!(missing.contains("`ingest.proof` is missing") && missing.contains("BACKEND__INGEST__PROOF"), "{missing}");
    assert!(load("", &[("BACKEND__PARTNER_API__API_KEY", "")]).unwrap_err().contains("`partner_api.api_key`"));
}

#[test]
fn durability_is_fsync_memory_or_a_number_of_replicas() {
    let durability = |text| load("", &[("BACKEND__REDIS__DURABILITY", text)]).map(|config| config.redis.durability);
    assert_eq!(durability("fsync"), Ok(Durability::Fsync));
    assert_eq!(durability("replicas:2"), Ok(Durability::Replicas(2)));
    for text in ["replicas", "replicas:0", "replicas:10", "replicas:x", "disk"] {
        let said = durability(text).unwrap_err();
        assert!(said.contains("`redis.durability`") && said.contains("replicas:N"), "{said}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_the_file_overrides_the_defaults() {
    let file = "[redis]\npartitions = 8\nprefix = \"file\"";
    let config = load(file, &[("BACKEND__REDIS__PARTITIONS", "4")]).unwrap();
    assert_eq!((config.redis.partitions, config.redis.prefix.as_str()), (4, "file"));
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    for key in ["0123456789", "12345678e5", "true", "1_000", "+5", "0x1F", "1.50", "off"] {
        let config = load("", &[("BACKEND__PARTNER_API__API_KEY", key), ("BACKEND__REDIS__PREFIX", "007")]).unwrap();
        assert_eq!((config.partner_api.api_key.reveal(), config.redis.prefix.as_str()), (key, "007"));
        let from_file = load(&format!("[redis]\nprefix = \"7\"\n[sink]\nurl = \"{key}\""), &[]).unwrap();
        assert_eq!((from_file.sink.url.as_str(), from_file.redis.prefix.as_str()), (key, "7"));
    }
}

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
fn numbers_are_parsed_from_environment_variables() {
    let numbers = [
        ("BACKEND__REDIS__PARTITIONS", "4"),
        ("BACKEND__PARTNER_API__RATE_PER_SECOND", "2.5"),
        ("BACKEND__WORKER__LEASE_MS", "2000"),
        ("BACKEND__RECONCILER__BACKFILL_FIRST_ROUND", "true"),
    ];
    let config = load("", &numbers).unwrap();
    assert_eq!((config.redis.partitions, config.worker.lease), (4, Duration::from_secs(2)));
    assert_eq!((config.partner_api.rate_per_second, config.reconciler.backfill_first_round), (2.5, true));
    for (name, value, key) in [
        ("BACKEND__REDIS__PARTITIONS", "many", "redis.partitions"),
        ("BACKEND__REDIS__PARTITIONS", "-1", "redis.partitions"),
        ("BACKEND__REDIS__PARTITIONS", "", "redis.partitions"),
        ("BACKEND__WORKER__LEASE_MS", "2e3", "worker.lease_ms"),
        ("BACKEND__PARTNER_API__RATE_PER_SECOND", "fast", "partner_api.rate_per_second"),
        ("BACKEND__RECONCILER__BACKFILL_FIRST_ROUND", "maybe", "reconciler.backfill_first_round"),
    ] {
        let said = load("", &[(name, value)]).unwrap_err();
        assert!(said.contains(key) && said.contains("the environment"), "{name}={value}: {said}");
    }
}

#[test]
fn the_longest_store_timeout_is_shorter_than_envoys_per_try_timeout() {
    let bootstrap = include_str!("../../../envoy/bootstrap.yaml");
    let line = bootstrap.lines().find_map(|line| line.trim().strip_prefix("per_try_timeout: ")).unwrap();
    let per_try_timeout = Duration::from_secs(line.strip_suffix('s').unwrap().parse().unwrap());
    assert!(Duration::from_millis(check::LONGEST_STORE_TIMEOUT_MS + 250) <= per_try_timeout, "{per_try_timeout:?}");
    assert!(load("[ingest]\nstore_timeout_ms = 4500", &[]).is_ok());
    assert!(load("[ingest]\nstore_timeout_ms = 4501", &[]).is_err());
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
        ("[telemetry]\nsampling = 2", "telemetry.sampling"),
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
fn up_to_five_api_keys_are_accepted() {
    const NOT_KEYS: &str = "`partner_api.api_key` must be at most 5 keys";
    for (keys, error) in [
        ("1", None),
        ("1 2\n3\t4  5\n", None),
        (" \n", Some("`partner_api.api_key` is missing")),
        ("1 2 3 4 5 hunter2", Some(NOT_KEYS)),
        ("1 b\u{fc} hunter2", Some(NOT_KEYS)),
    ] {
        let said = load("", &[("BACKEND__PARTNER_API__API_KEY", keys)]).err();
        let is_said = said.as_ref().is_some_and(|said| error.is_some_and(|error| said.contains(error)));
        assert!(is_said == error.is_some() && said.is_some() == error.is_some(), "{keys:?}: {said:?}");
        assert!(!said.is_some_and(|said| said.contains("hunter2")), "{keys:?}");
    }
}

#[test]
fn up_to_five_secrets_sign_outcomes() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (number, is_valid) in [(0, true), (1, true), (2, true), (5, true), (6, false)] {
        let secrets = [secret; 6][..number].join("\n");
        let keys = load("", &[("BACKEND__SINK__SECRET", &secrets)]).map(|config| config.sink.signing_keys());
        assert_eq!(keys.is_ok_and(|keys| keys.is_ok_and(|keys| keys.len() == number)), is_valid, "{number}");
    }
}

#[test]
fn the_console_needs_credentials_unless_it_is_on_loopback() {
    let hash = "0123456789abcdef".repeat(4);
    for (listen, credentials, is_valid) in [
        ("", "", true),
        ("127.0.0.1:9091", "", true),
        ("[::1]:9091", "", true),
        ("0.0.0.0:9091", "", false),
        ("10.0.0.1:9091", "", false),
        ("0.0.0.0:9091", &format!("ada:view:{hash} bob:operate:{hash}"), true),
    ] {
        let file = format!("[console]\nlisten = \"{listen}\"\ncredentials = \"{credentials}\"");
        assert_eq!(load(&file, &[]).is_ok(), is_valid, "{file}");
    }
}

#[test]
fn a_standard_variable_replaces_a_default_and_traces_take_their_feature() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let own = ("BACKEND__TELEMETRY__OTLP_ENDPOINT", "http://other:4318");
    for (file, environment, expected) in [
        ("", &[][..], ""),
        ("", &[endpoint], endpoint.1),
        ("", &[endpoint, own], own.1),
        ("[telemetry]\notlp_endpoint = \"http://file:4318\"", &[endpoint], "http://file:4318"),
        ("", &[endpoint, ("BACKEND__TELEMETRY__OTLP_ENDPOINT", "")], ""),
    ] {
        match load(file, environment) {
            Ok(config) => {
                assert_eq!(config.telemetry.otlp_endpoint, expected, "{file} {environment:?}");
                assert!(cfg!(feature = "otlp") || expected.is_empty(), "{file} {environment:?}");
            }
            Err(error) => {
                assert!(!cfg!(feature = "otlp") && error.contains("without traces"), "{error}");
                assert!(!expected.is_empty(), "{file} {environment:?}: {error}");
            }
        }
    }
    let config = load("", &[("OTEL_SERVICE_NAME", "receiver"), ("OTEL_TRACES_SAMPLER", "always_on")]).unwrap();
    assert_eq!((config.telemetry.service_name.as_str(), config.telemetry.sampling), ("receiver", 0.01));
}

#[test]
fn secrets_are_read_from_files_and_never_printed() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a-secret-that-is-long\n").unwrap();
    let path = file.path().display().to_string();
    let config = load("", &[("BACKEND__INGEST__PROOF_FILE", &path)]).unwrap();
    assert_eq!(config.ingest.proof.reveal(), "a-secret-that-is-long");
    assert!(!format!("{config:?}").contains("a-secret"));
    let error = load("", &[("BACKEND__REDIS__URL", "redis://a:hunter2@b redis://c")]).unwrap_err();
    assert!(error.contains("redis.url") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_running_backend_takes_over_secrets_and_the_log_level_alone() {
    let hash = "0123456789abcdef".repeat(4);
    let credentials = format!("ada:view:{hash}");
    let text = |secret: &Secret| secret.reveal().to_owned();
    let old = load("", &[]).unwrap();
    for (key, value, now) in [
        ("console.credentials", credentials.as_str(), (|config| &config.console.credentials) as fn(&Config) -> &Secret),
        ("ingest.proof", "another-0123456789", |config| &config.ingest.proof),
        ("partner_api.api_key", "another key", |config| &config.partner_api.api_key),
        ("sink.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", |config| &config.sink.secret),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(value.as_bytes()).unwrap();
        let (variable, path) = (error::environment_name(key), file.path().display().to_string());
        let file_variable = format!("{variable}_FILE");
        for (environment, changed) in [((variable.as_str(), value), 1), ((file_variable.as_str(), path.as_str()), 2)] {
            let new = load("", &[environment, ("BACKEND__LOG__LEVEL", "debug"), ("BACKEND__WORKER__WINDOW", "7")]);
            let (config, changes) = old.with_live_settings_of(&new.unwrap()).unwrap();
            assert_eq!((text(now(&config)), config.log.level), (value.to_owned(), LogLevel::Debug), "{key}");
            assert_eq!(config.worker.window, old.worker.window);
            assert!(changes.live.contains(&key.to_owned()) && changes.live.contains(&"log.level".to_owned()));
            assert_eq!(
                (changes.live.len(), changes.at_restart),
                (changed + 1, vec!["worker.window".to_owned()]),
                "{key}"
            );
            let listed =
                |config: &Config, key: &str| config.settings.iter().find(|one| one.key == key).unwrap().to_string();
            assert_eq!(listed(&config, "log.level"), "log.level = debug (environment)");
            assert_eq!(listed(&config, "worker.window"), listed(&old, "worker.window"));
            assert_eq!(config.with_live_settings_of(&config).unwrap().1, Changes::default());
        }
    }
}

#[test]
fn live_settings_that_do_not_go_with_the_others_are_not_taken_over() {
    let hash = "0123456789abcdef".repeat(4);
    let old = load(&format!("[console]\nlisten = \"0.0.0.0:1\"\ncredentials = \"ada:view:{hash}\""), &[]).unwrap();
    // The address changes only at the next start, so everybody who reaches it could operate until then.
    let error = old.with_live_settings_of(&load("", &[]).unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("configuration: `console.credentials` is missing"), "{error}");
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

#[test]
fn every_setting_is_listed_with_its_origin_and_without_secrets() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"hunter2-hunter2-").unwrap();
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let path = secret.path().display();
    let text = format!("[redis]\npartitions = 8\nurl_file = \"{path}\"\n[sink]\nurl = \"https://app.example/hunter2\"");
    file.write_all(text.as_bytes()).unwrap();
    let variables = [
        ("BACKEND__INGEST__PROOF", "hunter2-hunter2-"),
        ("BACKEND__PARTNER_API__API_KEY", "hunter2"),
        ("BACKEND__LOG__LEVEL", "warn"),
    ];
    let variables: Map<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let environment = Environment::with_prefix("BACKEND").source(Some(variables));
    let settings = Config::from_sources(Some(file.path()), environment, [].into_iter()).unwrap().settings;
    let from_file = || file.path().display().to_string();
    for (key, value, origin) in [
        ("redis.partitions", "8", from_file()),
        ("redis.url", "[redacted]", secret.path().display().to_string()),
        ("sink.url", "https://app.example/…", from_file()),
        ("ingest.proof", "[redacted]", "environment".to_owned()),
        ("log.level", "warn", "environment".to_owned()),
        ("sink.secret", "\"\"", "default".to_owned()),
        ("partner_api.paging.size", "100", "default".to_owned()),
    ] {
        let expected = format!("{key} = {value} ({origin})");
        assert!(settings.iter().any(|setting| setting.to_string() == expected), "{expected}: {settings:?}");
    }
    assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    assert!(settings.is_sorted_by(|first, second| first.key < second.key) && settings.len() > 50);
}
