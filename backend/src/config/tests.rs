use std::io::Write as _;

use config::Map;

use super::*;

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut settings = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    settings.write_all(file.as_bytes()).unwrap();
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
    Config::from_sources(Some(settings.path()), environment).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_need_a_proof_and_a_key_and_nothing_else() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.redis.partitions, 16);
    assert_eq!(config.worker.lease, Duration::from_secs(10));
    let missing = load("", &[("BACKEND__INGEST__PROOF", "")]).unwrap_err();
    assert!(missing.contains("`ingest.proof` is missing") && missing.contains("BACKEND__INGEST__PROOF"), "{missing}");
    assert!(load("", &[("BACKEND__PARTNER_API__API_KEY", "")]).unwrap_err().contains("`partner_api.api_key`"));
}

#[test]
fn durability_is_one_of_three() {
    let durability = |text| load("", &[("BACKEND__REDIS__DURABILITY", text)]).map(|config| config.redis.durability);
    assert_eq!(durability("fsync"), Ok(Durability::Fsync));
    assert_eq!(durability("replicas:2"), Ok(Durability::Replicas(2)));
    for text in ["replicas", "replicas:0", "replicas:10", "replicas:x", "disk"] {
        let said = durability(text).unwrap_err();
        assert!(said.contains("`redis.durability`") && said.contains("replicas:N"), "{said}");
    }
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_the_defaults() {
    let file = "[redis]\npartitions = 8\nprefix = \"file\"";
    let config = load(file, &[("BACKEND__REDIS__PARTITIONS", "4")]).unwrap();
    assert_eq!((config.redis.partitions, config.redis.prefix.as_str()), (4, "file"));
}

#[test]
fn what_is_text_stays_as_it_is_written() {
    for key in ["0123456789", "12345678e5", "true", "1_000", "+5", "0x1F", "1.50", "off"] {
        let config = load("", &[("BACKEND__PARTNER_API__API_KEY", key), ("BACKEND__REDIS__PREFIX", "007")]).unwrap();
        assert_eq!((config.partner_api.api_key.reveal(), config.redis.prefix.as_str()), (key, "007"));
        let from_file = load(&format!("[redis]\nprefix = \"7\"\n[sink]\nurl = \"{key}\""), &[]).unwrap();
        assert_eq!((from_file.sink.url.as_str(), from_file.redis.prefix.as_str()), (key, "7"));
    }
}

#[test]
fn text_that_is_not_in_quotes_in_the_file_is_an_error_that_says_so() {
    for value in ["12345678e5", "123456789", "0x1F", "true", "1.50", "inf"] {
        let said = load(&format!("[sink]\nsecret = {value}"), &[]).unwrap_err();
        assert!(said.contains("`sink.secret`") && said.contains(".toml: put it in quotes"), "{said}");
        assert!(!said.contains(value) || value == "true", "{said}");
        let said = load(&format!("[partner_api.paging]\nskip_parameter = {value}"), &[]).unwrap_err();
        assert!(said.contains("`partner_api.paging.skip_parameter`"), "{said}");
    }
}

#[test]
fn numbers_are_read_from_the_environments_text() {
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
fn storing_takes_less_than_an_attempt_of_envoys() {
    let bootstrap = include_str!("../../../envoy/bootstrap.yaml");
    let line = bootstrap.lines().find_map(|line| line.trim().strip_prefix("per_try_timeout: ")).unwrap();
    let per_try_timeout = Duration::from_secs(line.strip_suffix('s').unwrap().parse().unwrap());
    assert!(check::LONGEST_STORE_TIMEOUT + Duration::from_millis(250) <= per_try_timeout, "{per_try_timeout:?}");
    assert!(load("[ingest]\nstore_timeout_ms = 4500", &[]).is_ok());
    assert!(load("[ingest]\nstore_timeout_ms = 4501", &[]).is_err());
}

#[test]
fn a_bad_setting_is_named() {
    for (file, key) in [
        ("[redis]\npartitions = 0", "redis.partitions"),
        ("[redis]\npartitions = \"many\"", "redis.partitions"),
        ("[redis]\nprefix = \"A\"", "redis.prefix"),
        ("[redis]\nurl = \"localhost\"", "redis.url"),
        ("[redis]\ndurability = \"disk\"", "durability"),
        ("[redis]\nhost = \"x\"", "host"),
        ("[ingest]\nlisten = \"8081\"", "ingest.listen"),
        ("[ingest]\nproof_file = \"/missing\"", "ingest.proof_file"),
        ("[ingest]\nstore_timeout_ms = 6000", "ingest.store_timeout_ms"),
        ("[worker]\nlease_ms = 10", "worker.lease_ms"),
        ("[worker]\nmax_attempts = 24", "`worker.max_attempts` no longer exists: set `worker.give_up_after_s`"),
        ("[worker]\nbackoff_cap_ms = 100000000", "worker.backoff_cap_ms"),
        ("[worker]\nattempt_timeout_ms = 1000", "worker.attempt_timeout_ms"),
        ("[worker]\nbackoff_base_ms = 1000000", "worker.backoff_base_ms"),
        ("[partner_api]\nbase_url = \"api.truenroll.com\"", "partner_api.base_url"),
        ("[sink]\nkind = \"http\"", "sink.url"),
        ("[sink]\nsecret = \"whsec_short\"", "sink.secret"),
        ("[log]\nlevel = \"loud\"", "level"),
        ("[nothing]\nx = 1", "nothing"),
    ] {
        let error = load(file, &[]).unwrap_err();
        assert!(error.contains(key), "{file}: {error}");
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
    let error = load("", &[("BACKEND__REDIS__URL", "http://user:hunter2@host")]).unwrap_err();
    assert!(error.contains("redis.url") && !error.contains("hunter2"), "{error}");
}
