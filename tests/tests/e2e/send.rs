//! `cargo sim send`: each kind of request gets the answer that it deserves.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use envoy::publish::Outcome;
use harness::{process::free_port, tools};
use serde_json::json;

use crate::fixture::{Fixture, eventually};

const TOKEN: &str = "the-token-of-the-sender";
const OTHER_TOKEN: &str = "another-token-of-the-sender";

/// Runs `sim send` with these arguments. Returns its exit code, and what it prints.
pub(crate) fn send(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(tools::workspace_binary("simulator", "sim", &[]).unwrap());
    command.arg("send").args(arguments).stdin(Stdio::null());
    for variable in ["SIM_URL", "SIM_SIMULATOR", "SIM_WEBHOOK_TOKEN", "SIM_WEBHOOK_SECRET", "SIM_API_KEY"] {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
}

async fn publish(fixture: &Fixture, policy: serde_json::Value) {
    let publisher = fixture.stack.publisher().unwrap();
    let build = fixture.stack.build(policy).unwrap();
    let published = tokio::task::spawn_blocking(move || publisher.publish(&build)).await.unwrap();
    assert_eq!(published.unwrap().1, Outcome::Verified);
}

/// Asserts that the request with these flags gets this answer, and deserves it.
fn deserves(arguments: &[&str], flags: &[&str], answer: &str) {
    let (code, said) = send(&[arguments, flags].concat());
    assert_eq!(code, Some(0), "{flags:?}: {said}");
    assert!(said.contains(answer), "{flags:?} is not answered {answer}: {said}");
    assert!(said.contains("POST http://127.0.0.1:") && !said.contains(TOKEN), "{flags:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_request_gets_the_answer_that_it_deserves() {
    let authenticity = json!({ "kind": "path_token", "tokens": [TOKEN] });
    let policy = json!({ "authenticity": authenticity });
    let fixture = Fixture::start_with(|options| harness::stack::Options { policy, ..options }).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let (url, simulator) = (fixture.stack.edge(), fixture.simulator.url());
    let to = ["--url", &url, "--token-file", token_file.to_str().unwrap(), "--simulator", &simulator];
    let completed = [&["extraction.completed", "--case", "by-hand"], &to[..]].concat();

    for (flags, answer) in [
        (&[][..], "\n202 accepted\nevent key: case.extraction.completed:by-hand:"),
        (&["--at", "2025-06-22T10:30:00Z"], "\n202 accepted\n"),
        (&["--at", "2025-06-22T10:30:00Z"], "\n202 duplicate\n"),
        (&["--duplicate"], "\n202 duplicate\n"),
        (&["--conflict"], "\n202 duplicate\n"),
        (&["--late"], "\n202 accepted\n"),
        (&["--future"], "\n422 invalid_field at /payload/occurredAt\n"),
        (&["--unknown"], "\n422 unknown_event at /eventName\n"),
        (&["--incomplete"], "\n422 missing_field at /payload/caseId\n"),
        (&["--other-audience"], "\n403 wrong_audience at /audience\n"),
        (&["--malformed"], "\n400 malformed_json\n"),
        (&["--empty"], "\n400 empty_body\n"),
        (&["--too-large"], "\n413 payload_too_large\n"),
        (&["--not-json"], "\n415 unsupported_media_type\n"),
        (&["--wrong-token"], "\n404 not_found\n"),
    ] {
        deserves(&completed, flags, answer);
    }
    // The plain event, --at, --duplicate, --conflict and --late.
    fixture.delivered_once(5).await;

    for event in ["classification.completed", "forensics.completed", "case.translation.failed"] {
        deserves(&[&[event, "--case", "by-hand"], &to[..]].concat(), &[], "\n202 accepted\n");
    }
    fixture.delivered_once(8).await;
    let deliveries = fixture.simulator.application.deliveries();
    let failed = deliveries.iter().find(|delivery| delivery.lane.1 == "translation").unwrap();
    assert_eq!(failed.body["outcome"]["recommendation"], "manual_review");
    assert_eq!(fixture.dead_letters().await, []);

    deserves(&[&["extraction.completed", "--forged"], &to[..]].concat(), &[], "\n202 accepted\n");
    eventually("the forged event is a dead letter", async || {
        fixture.dead_letters().await == [("api_case_not_found".to_owned(), 1)]
    })
    .await;

    publish(&fixture, json!({ "authenticity": authenticity, "unknown_events": "quarantine" })).await;
    deserves(&completed, &["--unknown"], "\n202 quarantined\nevent key: unknown.");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_request_does_not_deserve_fails_and_no_error_shows_the_token() {
    let fixture = Fixture::start_with(|mut options| {
        options.policy = json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } });
        options
    })
    .await;
    let webhook = fixture.stack.webhook();
    let with_token = format!("{webhook}/{OTHER_TOKEN}");
    let nothing = format!("http://127.0.0.1:{}/{OTHER_TOKEN}", free_port().unwrap());
    let no_simulator = format!("http://127.0.0.1:{}", free_port().unwrap());
    for (arguments, code, expected) in [
        (&["--url", &webhook][..], 1, "404 not_found\nNOT the deserved answer, which is 202 accepted\n"),
        (&["--url", &webhook, "--token", OTHER_TOKEN], 1, "truenroll/<token>\n"),
        (&["--url", &with_token], 1, "truenroll/<token>\n"),
        (&["--url", &nothing], 1, "no answer from http://127.0.0.1:"),
        (&["--url", &webhook, "--token-file", "missing/token"], 1, "cannot read missing/token"),
        (&["--url", &webhook, "--secret", OTHER_TOKEN], 1, "--secret must be"),
        (&["--url", "another-token-of-the-sender"], 1, "--url is not a URL"),
        (&["--url", &webhook, "--simulator", &no_simulator], 1, "cannot tell the simulator"),
        (&["--up", "missing"], 1, "no `cargo up` runs with --dir missing"),
        (&["--late", "--duplicate"], 2, "cannot be used with"),
        (&["--case", "a b"], 2, "A-Z a-z 0-9 _ -"),
    ] {
        let (exit, said) = send(&[&["extraction.completed"], arguments].concat());
        assert_eq!(exit, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains(OTHER_TOKEN), "{arguments:?}: {said}");
    }
    let (exit, said) = send(&["extraction.finished"]);
    assert!(exit == Some(2) && said.contains("must be classification, extraction"), "{said}");
}
