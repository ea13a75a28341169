//! What makes `guardctl publish` succeed, fail or roll back, and that strangers cannot influence
//! it.

use std::{
    fs, io,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use envelope::SigningKey;
use envoy::{
    build::Build,
    edge::Edge,
    publish::{Outcome, PublishError, Publisher, Unanswered},
};
use harness::{
    process::free_port,
    simulator::{
        sender::{Answer, Sender},
        steady::Steady,
    },
    stack::{DrainedEnvoy, Options},
    tools,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::fixture::{Fixture, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_the_backend_does_not_know_is_not_published() {
    let fixture = Fixture::start().await;
    let steady = fixture.steady("proof");
    eventually("there is traffic", async || steady.sent() > 20).await;
    let publisher = fixture.stack.publisher().unwrap();
    let served = publisher.edge.as_ref().unwrap().probe().unwrap();
    let mut build = fixture.stack.build(json!({ "max_depth": 9 })).unwrap();
    build.proof = "a-proof-that-no-backend-knows".to_owned();
    let rejected = tokio::task::spawn_blocking(move || publisher.publish(&build)).await.unwrap();
    let rejected = rejected.expect_err("the backend does not know the proof").to_string();
    assert!(rejected.contains("does not know"), "{rejected}");
    let publisher = fixture.stack.publisher().unwrap();
    assert_eq!(publisher.edge.as_ref().unwrap().probe().unwrap(), served);
    fixture.all_accepted_and_delivered(steady).await;
}

/// Sends an event straight to the backend, with a judgement that contains `proof`.
async fn send_judged(fixture: &Fixture, proof: &str) -> (u16, Value) {
    send_marked(fixture, proof, "accepted").await
}

/// Sends an event straight to the backend, with a judgement that contains `proof` and `mark`.
async fn send_marked(fixture: &Fixture, proof: &str, mark: &str) -> (u16, Value) {
    let event = fixture.events("judged", 1).remove(0);
    let request = harness::simulator::sender::client().post(fixture.stack.ingest()).body(event.body);
    let answer = request.header("x-edge-judged", format!("{proof};build;{mark}")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_unknown_proof_gets_503_and_readiness_says_why() {
    let fixture = Fixture::start().await;
    let ready = async || {
        let answer = reqwest::get(format!("{}/readyz", fixture.stack.admin())).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready().await.0, 200);
    for _ in 0..100 {
        let (status, problem) = send_judged(&fixture, "a-proof-that-no-backend-knows").await;
        assert_eq!((status, &problem["code"]), (503, &json!("unproven")));
    }
    let (status, why) = ready().await;
    assert!(status == 503 && why.contains("proof that this backend does not know"), "{status} {why}");
    let log = fixture.stack.backend.log();
    let lines = log.matches("does not know").count();
    assert!(
        (1..10).contains(&lines),
        "unknown proofs are logged at a bounded rate, but there are {lines} lines\n{log}"
    );
    let event = fixture.events("known", 1).remove(0);
    fixture.send_accepted(&event).await;
    assert_eq!(ready().await.0, 200, "the last request had a known proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_judgement_is_stored_only_if_the_proof_is_not_checked() {
    let intact = Fixture::start().await;
    assert_eq!(send_judged(&intact, "a-proof-that-no-backend-knows").await.0, 503);
    let mutated = Fixture::start_with(|options| Options { mutation: Some("proof".to_owned()), ..options }).await;
    assert_eq!(
        send_judged(&mutated, "a-proof-that-no-backend-knows").await.0,
        202,
        "the mutated backend stores the event"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publishers_probes_are_closed_to_strangers_and_do_not_count_as_rejections() {
    let fixture = Fixture::start().await;
    let client = harness::simulator::sender::client();
    let prove = |base: String| client.get(base + "/-/guardctl/prove").send();
    let operators = prove(fixture.stack.envoy_admin_url()).await.unwrap();
    assert_eq!(operators.status(), 200);
    assert_eq!(operators.text().await.unwrap(), r#"{"status":"proven"}"#);
    assert_eq!(prove(fixture.stack.edge()).await.unwrap().status(), 404);
    let forged = client.get(fixture.stack.envoy_admin_url() + "/-/guardctl/prove").bearer_auth("forged");
    assert_eq!(forged.send().await.unwrap().status(), 503);

    let build = fixture.stack.build(json!({ "max_depth": 9 })).unwrap();
    fixture.stack.publisher().unwrap().publish(&build).unwrap();
    let edge = fixture.stack.envoy_metrics().await.unwrap();
    let backend = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(edge.sum("truenroll_filter_requests", &[]), 0);
    assert!(edge.sum("truenroll_filter_probes", &[]) > 16);
    assert_eq!(backend.sum("truenroll_backend_ingest_total", &[]), 0);
    assert!(reqwest::get(format!("{}/readyz", fixture.stack.admin())).await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_the_publisher_is_never_stored_as_an_event() {
    let fixture = Fixture::start().await;
    let proof = fixture.stack.build(json!({})).unwrap().proof;
    let (status, problem) = send_marked(&fixture, &proof, "probe").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{problem}");
    let (status, answer) = send_marked(&fixture, &proof, "accepted").await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "the probe stored nothing: {answer}");
}

const TOKEN: &str = "token-of-the-genuine-sender";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn with_token(mut policy: Value) -> Value {
    policy["authenticity"] = json!({ "kind": "path_token", "tokens": [TOKEN] });
    policy
}

/// Starts a stack that demands a token, and a genuine sender that has it.
async fn with_genuine_sender(name: &str) -> (Fixture, Steady) {
    let mut fixture = Fixture::start_with(|options| Options { policy: with_token(json!({})), ..options }).await;
    fixture.sender = Arc::new(Sender::new(format!("{}/{TOKEN}", fixture.stack.webhook())));
    let steady = fixture.steady(name);
    eventually("there is genuine traffic", async || steady.sent() > 50).await;
    (fixture, steady)
}

/// Publishes a build, and watches its traffic for `watch` seconds.
async fn publish(fixture: &Fixture, build: Build, watch: u64) -> Result<Outcome, PublishError> {
    let publisher = Publisher { watch: Duration::from_secs(watch), ..fixture.stack.publisher().unwrap() };
    tokio::task::spawn_blocking(move || publisher.publish(&build).map(|(_, outcome)| outcome)).await.unwrap()
}

/// Starts a stranger that sends garbage and well-formed forged events to several paths, until the
/// task is aborted.
fn strangers(fixture: &Fixture) -> JoinHandle<()> {
    let client = harness::simulator::sender::client();
    let webhook = fixture.stack.webhook();
    let edge = fixture.stack.edge().trim_start_matches("http://").to_owned();
    let event = fixture.events("forged", 1).remove(0);
    tokio::spawn(async move {
        for path in ["", "/", "/token-that-somebody-guessed", "/x/y"].iter().cycle() {
            for body in ["{bad", "{}", "", &event.body] {
                let request = client.post(format!("{webhook}{path}")).header("content-type", "application/json");
                _ = request.body(body.to_owned()).send().await;
            }
            _ = send_in_an_unknown_coding(&edge).await;
        }
    })
}

/// Sends a request with an unknown transfer coding, which Envoy itself rejects. HTTP clients cannot
/// send such a request.
async fn send_in_an_unknown_coding(edge: &str) -> io::Result<u8> {
    let mut connection = TcpStream::connect(edge).await?;
    let request = b"POST /webhooks/truenroll HTTP/1.1\r\nhost: edge\r\ntransfer-encoding: gzip\r\n\r\n";
    connection.write_all(request).await?;
    connection.read_u8().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_strangers_do_not_roll_a_build_back() {
    let (fixture, steady) = with_genuine_sender("strangers").await;
    let strangers = strangers(&fixture);
    let build = fixture.stack.build(with_token(json!({ "max_body_bytes": 10_000 }))).unwrap();
    assert_eq!(publish(&fixture, build, 3).await.unwrap(), Outcome::Verified);
    strangers.abort();
    fixture.all_accepted_and_delivered(steady).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authenticity_rejections_do_not_roll_a_build_back() {
    let fixture = Fixture::start().await;
    let strangers = strangers(&fixture);
    let build = fixture.stack.build(json!({ "max_body_bytes": 10_000 })).unwrap();
    assert_eq!(publish(&fixture, build, 3).await.unwrap(), Outcome::Verified);
    strangers.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_can_be_switched_on_under_forged_traffic() {
    let fixture = Fixture::start().await;
    let strangers = strangers(&fixture);
    let policy = json!({ "authenticity": { "kind": "standard_webhooks", "secrets": [SECRET] } });
    assert_eq!(publish(&fixture, fixture.stack.build(policy).unwrap(), 3).await.unwrap(), Outcome::Verified);
    let event = fixture.events("signed", 1).remove(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let signature = SigningKey::parse(SECRET).unwrap().sign("msg_1", now, event.body.as_bytes());
    let request = harness::simulator::sender::client().post(fixture.stack.webhook()).body(event.body);
    let request = request.header("content-type", "application/json").header("webhook-id", "msg_1");
    let request = request.header("webhook-timestamp", now).header("webhook-signature", signature);
    assert_eq!(request.send().await.unwrap().status(), 202);
    strangers.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_rejects_requests_as_configured_is_not_rolled_back() {
    let (fixture, steady) = with_genuine_sender("stricter").await;
    let build = fixture.stack.build(with_token(json!({ "audience": "required" }))).unwrap();
    assert_eq!(publish(&fixture, build, 3).await.unwrap(), Outcome::Verified);
    let rejected = steady.stop().await.unwrap().undeserved;
    assert!(rejected.iter().all(|(_, answer)| matches!(answer, Answer::Rejected(403, ..))), "{rejected:?}");
    assert!(rejected.len() > 50, "{}", rejected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_on_authenticated_requests_is_rolled_back() {
    let (fixture, steady) = with_genuine_sender("faulty").await;
    let module = fs::read(tools::wasm_module("faulty", &[]).unwrap()).unwrap();
    let edge = fixture.stack.publisher().unwrap().edge.unwrap();
    let served = edge.probe().unwrap();
    for (depth, expected) in [(11, "rejects"), (12, "5xx"), (10, "the filter crashed")] {
        let build = fixture.stack.build(with_token(json!({ "max_depth": depth }))).unwrap();
        let rejected = publish(&fixture, Build { module: module.clone(), ..build }, 60).await;
        let Err(PublishError::Rejected { reason, .. }) = rejected else { panic!("{depth}: {rejected:?}") };
        assert!(reason.contains(expected), "{depth}: {reason}");
        eventually("the previous build serves again", async || edge.probe().as_ref() == Ok(&served)).await;
    }
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    let crashes = metrics.sum("envoy_wasm_truenroll_filter_vm_reload_success", &[])
        + metrics.sum("envoy_wasm_truenroll_filter_vm_reload_backoff", &[]);
    assert!(crashes > 0, "the metric for alerts counts crashes");
    drop(steady);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_replaces_another_one_is_verified_by_an_envoy_that_is_being_restarted() {
    let fixture = Fixture::start().await;
    let mut envoy = DrainedEnvoy::start(&fixture.stack, "restarted", 30).unwrap();
    let url = envoy.ready().replace("/ready", "");
    let publisher = fixture.stack.publisher().unwrap();
    let publisher = Publisher { edge: Some(Edge { url }), unanswered: Unanswered::Stage, ..publisher };
    let build = fixture.stack.build(json!({ "max_depth": 9 })).unwrap();
    envoy.process.kill().unwrap();
    let published = tokio::task::spawn_blocking(move || publisher.publish(&build).map(|(_, outcome)| outcome));
    tokio::task::block_in_place(|| envoy.start_again().unwrap());
    assert_eq!(published.await.unwrap().unwrap(), Outcome::Verified);
}

/// Runs guardctl on the directory `dir`, against the Envoy at `edge`.
fn guardctl(subcommand: &str, dir: &Path, edge: &str, more: &[&str]) -> Output {
    let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
    command.args([subcommand, "--edge", edge, "--dir"]).arg(dir);
    if subcommand == "publish" {
        command.arg("--wasm").arg(tools::wasm_filter().unwrap()).arg("--proof-file").arg(dir.with_extension("proof"));
    }
    if subcommand != "status" {
        command.args(["--rehearse-with", "none", "--watch", "0", "--patience", "2"]);
    }
    command.args(more).env_remove("EDGE_URL").stdin(Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_whether_envoy_serves_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("edge");
    let dead = format!("http://127.0.0.1:{}", free_port().unwrap());
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "max_depth = 9").unwrap();
    let other = ["--policy", policy.to_str().unwrap()];
    let run = |subcommand: &str, edge: &str, more: &[&str]| {
        let output = guardctl(subcommand, &dir, edge, more);
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        (output.status.code().unwrap(), said)
    };
    let expect = |(code, said): (i32, String), expected: i32, part: &str| {
        assert!(code == expected && said.contains(part), "{code} {said}");
    };
    expect(run("publish", &dead, &[]), 0, "is staged, but NOT verified");
    expect(run("publish", &dead, &[]), 0, "is NOT verified now");
    let served = fs::read(dir.join("ecds/filter.json")).unwrap();
    expect(run("publish", &dead, &other), 1, "no Envoy answers");
    expect(run("rollback", &dead, &[]), 1, "no earlier build");
    assert_eq!(fs::read(dir.join("ecds/filter.json")).unwrap(), served, "nothing was changed");
    expect(run("publish", &dead, &[&other[..], &["--stage"]].concat()), 0, "is staged, but NOT verified");
    expect(run("rollback", &dead, &[]), 1, "no Envoy answers");
    expect(run("rollback", &dead, &["--stage"]), 0, "is staged");
    expect(run("status", &dead, &[]), 1, "cannot tell which build Envoy serves");
    expect(run("publish", "http://no-such-host.invalid:9902", &other), 1, "no Envoy answers");
    // Another program answers at that address, so it is wrong, even if the build is only staged.
    let fixture = Fixture::start().await;
    for more in [&other[..], &[&other[..], &["--stage"]].concat()] {
        expect(run("publish", &fixture.simulator.url(), more), 1, "not an Envoy with the filter");
    }
    expect(run("status", &fixture.simulator.url(), &[]), 1, "not an Envoy with the filter");
    expect(run("status", &fixture.stack.envoy_admin_url(), &[]), 0, "Envoy serves");
}
