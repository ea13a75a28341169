//! Secrets are replaced while the backend runs, without rejecting anything.

use std::{fs, path::PathBuf, time::Duration};

use envelope::Feature;
use harness::{
    backend_settings::{API_KEY, BackendSettings, PROOF, SINK_SECRET},
    process::Process,
    stack::Options,
};
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{Fixture, PATIENCE, eventually};

const NEW_SECRET: &str = "whsec_dGhlLW5ldy1zZWNyZXQtb2YtdGhlLWFwcGxpY2F0aW9u";
const NEW_PROOF: &str = "a-new-proof-for-this-machine-alone";
const RELOADS: &str = "truenroll_backend_config_reloads_total";

/// A file with a setting of the backends, to be changed while they run.
struct SettingFile {
    path: PathBuf,
    _folder: TempDir,
}

impl SettingFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Self { path: folder.path().join("setting"), _folder: folder };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    /// Names this file in a setting of the backends.
    fn set(&self, options: Options, setting: &str) -> Options {
        options.backend(setting, self.path.display()).backend("log.format", "json")
    }

    /// Changes the file, and has all backends read it.
    async fn change(&self, fixture: &Fixture, text: &str) {
        self.write(text);
        reload(fixture, "applied").await;
    }
}

/// Has all backends read their settings again, and waits until each of them has.
async fn reload(fixture: &Fixture, result: &str) {
    let label = format!("result=\"{result}\"");
    let counts = async || -> Vec<u64> {
        let all = fixture.stack.all_backend_metrics().await.unwrap();
        all.iter().map(|metrics| metrics.sum(RELOADS, &[&label])).collect()
    };
    let before = counts().await;
    for backend in [&fixture.stack.backend].into_iter().chain(&fixture.stack.replicas) {
        backend.signal("HUP").unwrap();
    }
    eventually(&format!("each backend counts a reload as {result}"), async || {
        counts().await.iter().zip(&before).all(|(now, before)| now > before)
    })
    .await;
    for metrics in fixture.stack.all_backend_metrics().await.unwrap() {
        let is_successful = metrics.sum("truenroll_backend_config_last_reload_successful", &[]);
        assert_eq!(is_successful, u64::from(result == "applied"));
    }
}

/// The lines of a backend's log, which is JSON, that contain this text.
fn lines(backend: &Process, text: &str) -> Vec<String> {
    backend.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// What the log says about a reload after which these settings are others.
fn changed(settings: &str) -> String {
    format!("\"the configuration was read again\",\"changed\":\"{settings}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_rejects_no_outcome_while_its_secret_is_replaced() {
    let secret = SettingFile::new(SINK_SECRET);
    let start = |options| secret.set(Options { replicas: 1, ..options }, "sink.secret_file");
    let fixture = Fixture::start_with(start).await;
    let steady = fixture.steady("rotated");
    eventually("there is traffic", async || steady.sent() > 50).await;
    secret.change(&fixture, &format!("{NEW_SECRET}\n{SINK_SECRET}\n")).await;
    // An outcome may have been signed just before, and be on its way.
    eventually("outcomes are signed with both secrets", async || are_signed(&fixture, 2)).await;
    fixture.simulator.application.change_secret(NEW_SECRET).unwrap();
    secret.change(&fixture, NEW_SECRET).await;
    eventually("outcomes are signed with the new secret", async || are_signed(&fixture, 1)).await;
    fixture.all_accepted_and_delivered(steady).await;
    assert_eq!(fixture.simulator.application.complaints(), [""; 0]);
    for backend in [&fixture.stack.backend, &fixture.stack.replicas[0]] {
        let log = backend.log();
        assert_eq!(log.matches(&changed("sink.secret")).count(), 2, "{log}");
        assert!(!log.contains("whsec_"), "{log}");
    }
}

/// Whether each of the last 50 outcomes has this number of signatures.
fn are_signed(fixture: &Fixture, number: usize) -> bool {
    let deliveries = fixture.simulator.application.deliveries();
    let mut last = deliveries.iter().rev().take(50).map(|delivery| delivery.headers["webhook-signature"].to_str());
    last.all(|signatures| signatures.unwrap().split(' ').count() == number)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_delivered_at_its_first_attempt_while_the_api_key_is_replaced() {
    const NEW_KEY: &str = "the-new-key";
    let keys = SettingFile::new(API_KEY);
    let fixture = Fixture::start_with(|options| keys.set(options, "partner_api.api_key_file")).await;
    let rejections =
        async || fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_api_key_rejections_total", &[]);
    let delivered = || fixture.simulator.application.deliveries().len();
    let steady = fixture.steady("key");
    eventually("the old key is used", async || delivered() > 50).await;
    assert_eq!(rejections().await, 0);
    keys.change(&fixture, &format!("{NEW_KEY} {API_KEY}")).await;
    eventually("the new key is tried", async || rejections().await > 0).await;
    let count = delivered();
    eventually("the old key is used again", async || delivered() > count + 50).await;
    let before = rejections().await;
    reload(&fixture, "applied").await;
    let count = delivered();
    eventually("the old key stays in use", async || delivered() > count + 50).await;
    assert_eq!(rejections().await, before, "only the first calls try the new key");
    fixture.simulator.world.change_api_key(NEW_KEY);
    eventually("the old key is rejected", async || rejections().await > before).await;
    let count = delivered();
    eventually("the new key is used", async || delivered() > count + 50).await;
    let before = rejections().await;
    keys.change(&fixture, NEW_KEY).await;
    let count = delivered();
    eventually("the new key is used alone", async || delivered() > count + 50).await;
    fixture.all_accepted_and_delivered(steady).await;
    assert_eq!(rejections().await, before, "the old key is not used any more");
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_backend_retries_total", &[]), 0);
    assert_eq!(metrics.sum("truenroll_backend_dead_letters_total", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_rejected_while_the_proof_is_replaced() {
    let proof = SettingFile::new(PROOF);
    let start = |options| proof.set(Options { replicas: 1, ..options }, "ingest.proof_file");
    let fixture = Fixture::start_with(start).await;
    let steady = fixture.steady("proof");
    eventually("there is traffic", async || steady.sent() > 50).await;
    proof.change(&fixture, &format!("{PROOF} {NEW_PROOF}")).await;
    let mut build = fixture.stack.build(json!({})).unwrap();
    build.proof = NEW_PROOF.to_owned();
    let publisher = fixture.stack.publisher().unwrap();
    tokio::task::spawn_blocking(move || publisher.publish(&build)).await.unwrap().unwrap();
    // Requests that the old build judged may still be on their way.
    let sent = steady.sent();
    eventually("the new build is used", async || steady.sent() > sent + 100).await;
    proof.change(&fixture, NEW_PROOF).await;
    let sent = steady.sent();
    eventually("the new proof is used alone", async || steady.sent() > sent + 50).await;
    fixture.all_accepted_and_delivered(steady).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_leave_the_earlier_ones_in_effect() {
    let secret = SettingFile::new(SINK_SECRET);
    let config = SettingFile::new("[log]\nlevel = \"info\"");
    let fixture = Fixture::start_with(|mut options| {
        options.backend.set_variable("BACKEND_CONFIG", config.path.display());
        secret.set(options, "sink.secret_file")
    })
    .await;
    let secret_path = secret.path.display().to_string();
    let config_path = config.path.display().to_string();
    let still_works = async |number: usize| {
        let events = fixture.events(&format!("wrong-{number}"), Feature::ALL.len());
        for event in &events {
            fixture.send_accepted(event).await;
        }
        fixture.delivered((number + 1) * events.len()).await;
    };
    for (number, (text, settings, expected)) in [
        ("whsec_hunter2", "", "`sink.secret` must be at most 5 secrets".to_owned()),
        ("", "", format!("`sink.secret_file` is `{secret_path}`, which is empty")),
        (NEW_SECRET, "[sink]\nsecret = \"hunter2", format!("{config_path}: TOML parse error at line 2, column 18: ")),
        (
            NEW_SECRET,
            "[worker]\nwindow = 0",
            format!("`worker.window` is 0, but must be 1 to 100000 (set in {config_path})"),
        ),
        (NEW_SECRET, "[sink]\nsecrets = \"hunter2\"", "unknown field `secrets`".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        secret.write(text);
        config.write(settings);
        reload(&fixture, "rejected").await;
        let errors = lines(&fixture.stack.backend, "no setting was taken over");
        assert_eq!(errors.len(), number + 1, "{errors:#?}");
        let error = errors.last().unwrap();
        assert!(error.contains(&expected) && error.contains("\"level\":\"ERROR\""), "{error}");
        assert!(!fixture.stack.backend.log().contains("hunter2"), "{error}");
        still_works(number).await;
    }
    let not_read = fixture.stack.backend_output(&["check"], &BackendSettings::default());
    assert_eq!(not_read.unwrap().status.code(), Some(78), "`backend check` finds the same error");
    secret.write(SINK_SECRET);
    config.write("[log]\nlevel = \"debug\"\n[worker]\nwindow = 999");
    reload(&fixture, "applied").await;
    still_works(5).await;
    for expected in [
        &changed("log.level"),
        "take effect only when the backend is restarted\",\"changed\":\"worker.window\"",
        "\"level\":\"DEBUG\"",
    ] {
        assert!(!lines(&fixture.stack.backend, expected).is_empty(), "{expected}: {}", fixture.stack.backend.log());
    }
    reload(&fixture, "applied").await;
    assert_eq!(lines(&fixture.stack.backend, &changed("")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_stopping_survives_sighup_and_still_reads_its_settings() {
    let proof = SettingFile::new(PROOF);
    let mut fixture = Fixture::start_with(|options| proof.set(options, "ingest.proof_file")).await;
    fixture.simulator.application.set_pace(Duration::from_secs(10));
    for event in fixture.events("slow", 20) {
        fixture.send_accepted(&event).await;
    }
    eventually("outcomes are on their way", async || fixture.simulator.application.busy() > 10).await;
    fixture.stack.backend.signal("TERM").unwrap();
    eventually("it stops", async || fixture.stack.backend.log().contains("stopping")).await;
    proof.change(&fixture, &format!("{PROOF} {NEW_PROOF}")).await;
    let status = fixture.stack.backend.wait(PATIENCE).unwrap().expect("it stops by itself");
    assert!(status.success(), "{status}");
}
