use std::{io::Write as _, time::Duration};

use config::Map;

use super::{live::Changes, *};

mod errors;

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
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector/ingest?tenant=1");
    let own = ("BACKEND__TELEMETRY__OTLP_ENDPOINT", "http://own:4318");
    let (to_base, to_whole) = (Some("http://collector:4318/v1/traces"), Some(whole.1));
    let (to_file, to_own) = (Some("http://file:4318/v1/traces"), Some("http://own:4318/v1/traces"));
    let file = "[telemetry]\notlp_endpoint = \"http://file:4318\"";
    for (file, environment, expected) in [
        ("", &[][..], None),
        ("", &[base], to_base),
        ("", &[whole], to_whole),
        ("", &[base, whole], to_whole),
        ("", &[whole, base], to_whole),
        ("", &[base, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")], to_base),
        ("", &[base, whole, own], to_own),
        (file, &[base, whole], to_file),
        (file, &[own], to_own),
        // The same text, but not the whole URL.
        (file, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://file:4318")], to_file),
        ("", &[base, whole, ("BACKEND__TELEMETRY__OTLP_ENDPOINT", "")], None),
        ("", &[base, ("OTEL_SDK_DISABLED", "True")], None),
        ("", &[whole, ("OTEL_TRACES_EXPORTER", "none")], None),
        ("", &[base, ("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")], to_base),
        (file, &[("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")], to_file),
        ("", &[own, ("OTEL_SDK_DISABLED", "true")], to_own),
    ] {
        match load(file, environment) {
            Ok(config) => {
                assert_eq!(config.telemetry.traces_url().as_deref(), expected, "{file} {environment:?}");
                assert!(cfg!(feature = "otlp") || expected.is_none(), "{file} {environment:?}");
            }
            Err(error) => {
                assert!(!cfg!(feature = "otlp") && error.contains("without traces"), "{error}");
                assert!(expected.is_some(), "{file} {environment:?}: {error}");
            }
        }
    }
    let others =
        [("OTEL_SERVICE_NAME", "receiver"), ("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "7")];
    let telemetry = load("", &others).unwrap().telemetry;
    assert_eq!((telemetry.service_name.as_str(), telemetry.sampling), ("receiver", 0.01));
    assert_eq!(telemetry.otlp_timeout, Duration::from_millis(7));
    for ignored in ["10s", "0", "-1", "86400000"] {
        let telemetry = load("", &[("OTEL_EXPORTER_OTLP_TIMEOUT", ignored)]).unwrap().telemetry;
        assert_eq!(telemetry.otlp_timeout, Duration::from_secs(10), "{ignored}");
    }
}
#[test]
fn a_trace_has_a_page_if_a_url_is_set() {
    for (url, expected) in [
        ("", None),
        ("https://jaeger.example/trace/{trace_id}", Some("https://jaeger.example/trace/0af7")),
        (
            "http://grafana:3000/explore?q={trace_id}&again={trace_id}",
            Some("http://grafana:3000/explore?q=0af7&again=0af7"),
        ),
    ] {
        let config = load("", &[("BACKEND__TELEMETRY__TRACE_URL", url)]).unwrap();
        assert_eq!(config.telemetry.page_of("0af7").as_deref(), expected);
    }
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
