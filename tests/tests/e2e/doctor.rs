//! `backend doctor` passes every check of a healthy installation, and names each fault.

use std::{collections::BTreeMap, fs};

use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, BackendSettings, PROOF},
    keys,
    process::free_port,
    redis_server::{FSYNC, IN_MEMORY},
    simulator::world::Fault,
    stack::Options,
    tools,
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually, redis};

/// A result of `backend doctor`: its checks by name, its exit code, and all that it printed.
pub(crate) struct Diagnosis {
    checks: BTreeMap<String, Value>,
    code: Option<i32>,
    pub(crate) printed: String,
}

impl Diagnosis {
    /// The names of the checks that have this status.
    fn with(&self, status: &str) -> Vec<&str> {
        self.checks.iter().filter(|(_, check)| check["status"] == status).map(|(name, _)| name.as_str()).collect()
    }

    /// Asserts that a check has this status and says this, in what it found or in its advice.
    pub(crate) fn says(&self, name: &str, status: &str, said: &str) {
        let check = &self.checks[name];
        assert!(check["status"] == status && check.to_string().contains(said), "{name}: {status}, {said}: {check}");
    }
}

pub(crate) fn diagnose(fixture: &Fixture, arguments: &[&str], own: &BackendSettings) -> Diagnosis {
    let arguments = [&["doctor", "--json"][..], arguments].concat();
    let output = fixture.stack.backend_output(&arguments, own).unwrap();
    let printed =
        [&output.stdout, &output.stderr].map(|printed| String::from_utf8_lossy(printed).into_owned()).concat();
    let checks = String::from_utf8_lossy(&output.stdout);
    let checks = checks.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let checks = checks.map(|check| (check["name"].as_str().unwrap().to_owned(), check)).collect();
    Diagnosis { checks, code: output.status.code(), printed }
}

/// One changed setting.
fn with(name: &str, value: impl ToString) -> BackendSettings {
    BackendSettings::default().with(name, value)
}

const TOKEN: &str = "a-token-of-this-test-alone";

/// A stack that nothing is wrong with, and two cases.
async fn healthy(folder: &std::path::Path) -> Fixture {
    let policy = json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } });
    let file = folder.join("policy.toml");
    // As in the Compose file, where the token is not in the policy's file.
    fs::copy(tools::workspace().join("envoy/policy.toml"), &file).unwrap();
    let fixture = Fixture::start_with(|options| {
        Options { policy, ..options }
            .backend("reconciler.policy_file", file.display())
            .backend("partner_api.max_response_bytes", 16 << 20)
    })
    .await;
    fixture.stack.redis.as_ref().unwrap().ask::<()>(&["CONFIG", "SET", "maxmemory", "1gb"]).unwrap();
    for case in ["one", "two"] {
        fixture.simulator.world.upload(case, Some("applicant-1"), &Feature::ALL);
    }
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_installation_passes_and_each_fault_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = healthy(folder.path()).await;
    let none = BackendSettings::default();
    eventually("every check passes", async || {
        let diagnosis = diagnose(&fixture, &["--probe-sink"], &none);
        let passed = diagnosis.with("pass").len();
        if passed < 22 {
            println!("{}", diagnosis.printed);
        }
        passed == 22 && diagnosis.code == Some(0)
    })
    .await;
    assert!(fixture.simulator.application.tests() > 0, "the application received a test");
    assert_eq!(fixture.simulator.application.counts(), (0, 0), "a test is not an outcome");
    assert_eq!(fixture.simulator.application.complaints(), [""; 0]);

    let closed = free_port().unwrap();
    let closed_url = format!("http://127.0.0.1:{closed}/secret-path");
    let missing = folder.path().join("missing");
    for (own, name, status, said) in [
        (with("partner_api.api_key", "wrong"), "partner-api", "failure", "(401)"),
        (with("partner_api.api_key", format!("wrong {API_KEY}")), "partner-api", "warning", "accepts key 2 of 2"),
        (with("partner_api.base_url", &closed_url), "partner-api", "failure", "refused"),
        (with("partner_api.paging.skip_parameter", "offset"), "partner-api-paging", "failure", "ignores `offset`"),
        (with("partner_api.paging.size_parameter", "count"), "partner-api-paging", "failure", "ignores `count`"),
        (with("sink.url", &closed_url), "sink", "failure", "refused"),
        (with("sink.secret", ""), "sink-signature", "warning", "not signed"),
        (with("sink.kind", "log"), "sink", "warning", "not delivered"),
        (with("doctor.envoy_url", ""), "envoy-build", "warning", "`doctor.envoy_url`"),
        (with("doctor.envoy_url", &closed_url), "envoy-proof", "failure", "refused"),
        (with("doctor.envoy_url", fixture.stack.admin()), "envoy-build", "failure", "names no build"),
        (with("reconciler.policy_file", missing.display()), "authenticity", "failure", "cannot be read"),
        (with("redis.url", format!("redis://127.0.0.1:{closed}")), "redis-reachable", "failure", "refused"),
        (with("redis.durability", "memory"), "redis-durability", "warning", "memory"),
        (with("redis.partitions", 8), "redis-format", "failure", "set it to 16"),
        (with("redis.prefix", "other"), "partitions", "failure", "no backend is at work"),
        (with("worker.parallelism", 100_000), "spool", "warning", "at once"),
    ] {
        let diagnosis = diagnose(&fixture, &[], &own);
        diagnosis.says(name, status, said);
        let failed = !diagnosis.with("failure").is_empty();
        assert_eq!(diagnosis.code, Some(i32::from(failed)), "{name}: {}", diagnosis.printed);
        for secret in [TOKEN, PROOF, "secret-path", "applicant-1"] {
            assert!(!diagnosis.printed.contains(secret), "{secret}: {}", diagnosis.printed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_runtime_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = healthy(folder.path()).await;
    let none = BackendSettings::default();

    fixture.simulator.world.fail_next([Fault::status(403), Fault::status(403)]);
    diagnose(&fixture, &[], &none).says("partner-api", "failure", "(403)");
    fixture.simulator.world.heal();

    let server = fixture.stack.redis.as_ref().unwrap();
    for (setting, value, name, said) in [
        ("maxmemory-policy", "allkeys-lru", "redis-eviction", "set it to `maxmemory-policy noeviction`"),
        ("appendonly", "no", "redis-durability", "set it to `appendonly yes`"),
    ] {
        let before: Vec<String> = server.ask(&["CONFIG", "GET", setting]).unwrap();
        server.ask::<()>(&["CONFIG", "SET", setting, value]).unwrap();
        let diagnosis = diagnose(&fixture, &[], &none);
        diagnosis.says(name, "failure", said);
        let other = if name == "redis-eviction" { "redis-durability" } else { "redis-eviction" };
        diagnosis.says(other, "pass", "");
        diagnose(&fixture, &[], &with("redis.check_server", false)).says(name, "warning", "the backend uses it");
        server.ask::<()>(&["CONFIG", "SET", setting, &before[1]]).unwrap();
    }

    fixture.stack.backend_command(&["pause", "translation"]).unwrap();
    diagnose(&fixture, &[], &none).says("backlog", "warning", "paused: translation");
    fixture.stack.backend_command(&["resume", "translation"]).unwrap();

    let rejected = axum::http::StatusCode::GONE;
    fixture.simulator.application.fail_next([(rejected, std::time::Duration::ZERO)]);
    let event = fixture.event("one", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let url = format!("{}/{TOKEN}", fixture.stack.webhook());
    let request = harness::simulator::sender::client().post(url).header("content-type", "application/json");
    assert_eq!(request.body(event.body.clone()).send().await.unwrap().status().as_u16(), 202);
    eventually("the dead letter is named", async || {
        diagnose(&fixture, &[], &none).checks["dead-letters"]["status"] == "warning"
    })
    .await;

    fixture.stack.backend.stop(std::time::Duration::from_secs(25)).unwrap();
    let diagnosis = diagnose(&fixture, &[], &none);
    diagnosis.says("partitions", "failure", "no backend is at work");
    diagnosis.says("envoy-proof", "failure", "reaches no backend");
    diagnosis.says("envoy-build", "pass", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_no_backend_knows_is_named() {
    let mut fixture = Fixture::start().await;
    fixture.stack.set_backend("ingest.proof", "another-proof-of-this-test");
    fixture.stack.backend.kill().unwrap();
    fixture.stack.start_backend().unwrap();
    let diagnosis = diagnose(&fixture, &[], &BackendSettings::default());
    diagnosis.says("envoy-proof", "failure", "does not know the filter's proof");
    diagnosis.says("authenticity", "warning", "anyone can send events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_named() {
    let fixture = Fixture::start_with(|options| Options { clocks: true, ..options }).await;
    fixture.stack.clocks[0].set(400).unwrap();
    let own = fixture.stack.clocks[0].settings().unwrap();
    let diagnosis = diagnose(&fixture, &[], &own);
    diagnosis.says("clock-redis", "failure", "6 min ahead of that of Redis");
    diagnosis.says("clock-partner-api", "failure", "6 min ahead of that of the Partner API");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_persistence_is_examined_although_the_backend_would_not_start() {
    let server = redis(&IN_MEMORY);
    let fixture = Fixture::start().await;
    let diagnosis = diagnose(&fixture, &[], &with("redis.url", server.url()));
    diagnosis.says("redis-durability", "failure", "set it to `appendonly yes`");
    diagnosis.says("redis-eviction", "pass", "");
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).unwrap();
    assert_eq!(keys, [""; 0], "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_format_is_named_with_its_repair() {
    let server = redis(&FSYNC);
    let fixture = Fixture::start().await;
    let key = keys::keys().of_partition(3).format();
    server.ask::<()>(&["SET", &key, "1"]).unwrap();
    let diagnosis = diagnose(&fixture, &[], &with("redis.url", server.url()));
    diagnosis.says("redis-format", "failure", &format!("holds the damaged key {key}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_per_check_is_printed_for_people_and_settings_as_details() {
    let fixture = Fixture::start().await;
    let print = |arguments: &[&str]| {
        let output = fixture.stack.backend_output(arguments, &BackendSettings::default()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = print(&["doctor"]);
    assert_eq!(lines.lines().count(), 21, "{lines}");
    assert!(lines.contains("\npass     redis-durability    each event is on disk"), "{lines}");
    assert!(!lines.contains("worker.window"), "{lines}");
    let details = print(&["doctor", "--details"]);
    for line in ["worker.window = 1000 (default)", "ingest.proof = [redacted] (environment)"] {
        assert!(details.contains(line), "{details}");
    }
}
