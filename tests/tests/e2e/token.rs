//! Authentication of the sender by tokens and signatures, and how it is changed on a live endpoint.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use envelope::SigningKey;
use envoy::publish::{Outcome, Publisher};
use harness::{simulator::steady::Steady, tools};
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};

const FIRST: &str = "first-token-of-the-sender";
const SECOND: &str = "second-token-of-the-sender";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn publish(fixture: &Fixture, authenticity: Value) {
    let publisher = Publisher { watch: Duration::from_secs(1), ..fixture.stack.publisher().unwrap() };
    let build = fixture.stack.build(json!({ "authenticity": authenticity })).unwrap();
    let published = tokio::task::spawn_blocking(move || publisher.publish(&build)).await.unwrap();
    assert_eq!(published.unwrap().1, Outcome::Verified);
}

async fn more(steady: &Steady, events: usize) {
    let sent = steady.sent();
    eventually("there is more traffic", async || steady.sent() > sent + events).await;
}

async fn superseded(fixture: &Fixture) -> u64 {
    fixture.stack.envoy_metrics().await.unwrap().sum("truenroll_filter_superseded", &[])
}

/// Publishes a policy that accepts both the old and the new authentication, moves the sender to the
/// new one, and waits until the old one is unused.
async fn migrate(fixture: &Fixture, steady: &Steady, both: Value, webhook: &str, signing: Option<&str>) {
    let before = superseded(fixture).await;
    publish(fixture, both).await;
    eventually("requests with the old authentication are counted", async || superseded(fixture).await > before).await;
    let signing = signing.map(|secret| SigningKey::parse(secret).unwrap());
    fixture.sender.change_target(format!("{}{webhook}", fixture.stack.webhook()), signing);
    eventually("the old authentication is no longer used", async || {
        let used = superseded(fixture).await;
        more(steady, 25).await;
        superseded(fixture).await == used
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_a_token_is_introduced_rotated_and_replaced_by_signatures() {
    let fixture = Fixture::start().await;
    let token = |tokens: &[&str]| json!({ "kind": "path_token", "tokens": tokens });
    let or = |mut authenticity: Value, or: Value| {
        authenticity["or"] = or;
        authenticity
    };
    let signatures = json!({ "kind": "standard_webhooks", "secrets": [SECRET] });
    let steady = fixture.steady("token");
    more(&steady, 25).await;

    let both = or(token(&[FIRST]), json!({ "kind": "none" }));
    migrate(&fixture, &steady, both, &format!("/{FIRST}"), None).await;
    publish(&fixture, token(&[FIRST])).await;

    publish(&fixture, token(&[FIRST, SECOND])).await;
    fixture.sender.change_target(format!("{}/{SECOND}", fixture.stack.webhook()), None);
    more(&steady, 25).await;
    publish(&fixture, token(&[SECOND])).await;

    let both = or(signatures.clone(), token(&[SECOND]));
    migrate(&fixture, &steady, both, "", Some(SECRET)).await;
    publish(&fixture, signatures).await;
    more(&steady, 25).await;

    // Requests with an old authentication are now rejected.
    let event = fixture.events("old", 1).remove(0);
    for (path, status) in [("", 401), (SECOND, 404), (FIRST, 404)] {
        let url = if path.is_empty() { fixture.stack.webhook() } else { format!("{}/{path}", fixture.stack.webhook()) };
        let request = harness::simulator::sender::client().post(url).header("content-type", "application/json");
        assert_eq!(request.body(event.body.clone()).send().await.unwrap().status(), status, "{path}");
    }
    fixture.all_accepted_and_delivered(steady).await;
}

/// Runs guardctl with `WEBHOOK_TOKEN` set to `token`.
fn guardctl(folder: &Path, arguments: &[&str], token: &str) -> (Output, String) {
    let mut command = Command::new(tools::workspace_binary("envoy", "guardctl", &[]).unwrap());
    command.current_dir(folder).args(arguments).env("WEBHOOK_TOKEN", token).env_remove("EDGE_URL");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    (output, said)
}

#[test]
fn guardctl_creates_tokens_reads_them_from_files_or_the_environment_and_warns_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let module = fs::canonicalize(tools::wasm_filter().unwrap()).unwrap();
    let publish = |policy: &str, token: &str| {
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let dead = format!("http://127.0.0.1:{}", harness::process::free_port().unwrap());
        let arguments = ["publish", "--policy", "policy.toml", "--wasm", module.to_str().unwrap(), "--dir", "edge"];
        let more = ["--proof-file", "proof", "--rehearse-with", "none", "--stage", "--edge", &dead];
        let (output, said) = guardctl(folder.path(), &[&arguments[..], &more].concat(), token);
        let served = fs::read_to_string(folder.path().join("edge/ecds/filter.json")).unwrap_or_default();
        (output.status.code(), said, served)
    };
    let (code, said, served) = publish("", "");
    assert!(code == Some(0) && said.contains("warning: `authenticity.kind` is \"none\""), "{said}");
    assert!(!served.contains("path_token"));

    let (_, said) = guardctl(folder.path(), &["token"], "");
    let token = said.lines().find_map(|line| line.strip_prefix("token: ")).unwrap().to_owned();
    assert!(token.len() == 43 && said.contains(&format!("path to register: /webhooks/truenroll/{token}\n")), "{said}");
    let (code, said, served) = publish("", &format!(" {token}\n{SECOND} "));
    assert!(code == Some(0) && served.contains(&token) && served.contains(SECOND), "{said}");
    assert!(!said.contains("warning") && !said.contains(&token), "{said}");

    fs::write(folder.path().join("tokens"), format!("# comment\n{FIRST}\n")).unwrap();
    let from_file = "[authenticity]\nkind = 'path_token'\ntokens_file = 'tokens'\n";
    let (code, said, served) = publish(from_file, "");
    assert!(code == Some(0) && served.contains(FIRST) && !said.contains(FIRST), "{said}");
    let (code, said, _) = publish(&format!("{from_file}[authenticity.or]\nkind = 'none'"), "");
    assert!(code == Some(0) && said.contains("truenroll_filter_superseded"), "{said}");
    let (code, said, _) = publish("[authenticity]\nkind = 'standard_webhooks'\nsecrets = []", &token);
    assert!(code == Some(1) && !said.contains(&token), "{said}");
}
