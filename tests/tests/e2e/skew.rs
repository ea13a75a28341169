//! Filter and backend of neighbouring versions: `tests/contract` records what the previous version's
//! filter and backend sent each other.

use std::fs;

use envelope::{Feature, Stage};
use harness::{
    backend_settings::PROOF,
    contract::{Exchange, Upstream, listener, message, serve_filter},
    simulator::sender::client,
    stack::Stack,
};
use serde_json::{Value, json};

use super::fixture::Fixture;

/// The recording of the previous version.
const PREVIOUS: &str = include_str!("../../contract/cf58e36.txt");
const UNDOCUMENTED: &str = r#"{"eventName":"case.accreditation.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;

fn previous() -> Vec<Exchange> {
    let exchanges = Exchange::read_all(PREVIOUS).unwrap();
    assert!(exchanges.len() >= 13, "the recording is not complete");
    exchanges
}

/// An answer without the sentences for people, which may change. The code that a program reads must
/// not.
fn without_wording(answer: &str) -> (String, Value) {
    let (head, body) = answer.split_once("\n\n").unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    let members = body.as_object_mut().unwrap();
    members.remove("title");
    members.remove("detail");
    (head.to_owned(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_answers_the_previous_filters_requests_as_the_previous_backend_did() {
    let fixture = Fixture::start().await;
    // The events are handled, so that none is a dead letter when it is sent again.
    for feature in Feature::ALL {
        fixture.event("6850abc123def456ghi789", feature, Stage::Completed, "2025-06-22T10:30:00Z");
    }
    for exchange in previous().into_iter().filter(|exchange| !exchange.passed.is_empty()) {
        let answered = message::send(&client(), &fixture.stack.ingest(), &exchange.passed).await.unwrap();
        let [answered, expected] = [answered, exchange.answered].map(|answer| without_wording(&answer));
        assert_eq!(answered, expected, "{}: {}", exchange.name, exchange.passed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_passes_on_exactly_what_the_previous_filter_did() {
    let upstream = Upstream::start().await.unwrap();
    let port = upstream.port().to_string();
    let fixture = Fixture::start_with(|mut options| {
        options.bootstrap.push(("backend_port", port));
        options
    })
    .await;
    upstream.pass_to(fixture.stack.ingest());
    let mut policy = Value::Null;
    for exchange in previous() {
        if exchange.policy != policy {
            policy = exchange.policy;
            serve_filter(&fixture.stack, &policy).await.unwrap();
        }
        message::send(&client(), &listener(&fixture.stack, &exchange.sent), &exchange.sent).await.unwrap();
        assert_eq!(upstream.take().0, exchange.passed, "{}: {}", exchange.name, exchange.sent);
    }
}

/// Sends an event straight to the backend, with the header `x-edge-judged` that a filter of a later
/// version might send. Returns the status and the body.
async fn send_later(stack: &Stack, judged: &str, body: &str) -> (u16, Value) {
    let request = client().post(stack.ingest() + "/webhooks/truenroll").header("content-type", "application/json");
    let answer = request.header("x-edge-judged", judged).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Events that a filter of a later version might accept, and that this backend cannot read.
fn unreadable_events() -> [String; 5] {
    let event = |case: &str, at: &str| {
        let payload = json!({ "caseId": case, "externalId": null, "occurredAt": at });
        json!({ "eventName": "case.extraction.completed", "payload": payload }).to_string()
    };
    let at = "2025-06-22T10:30:00Z";
    [
        event(&"x".repeat(200), at),
        event("case", "2025-06-22T10:30:00+00"),
        json!({ "eventName": "upload.finished", "payload": { "uploadId": "u1", "occurredAt": at } }).to_string(),
        "not JSON".to_owned(),
        event("case", at) + &" ".repeat(33_000),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_filter_sends_is_stored_or_answered_503_and_logged() {
    let fixture = Fixture::start().await;
    let stack = &fixture.stack;
    let body = previous()[0].sent.split_once("\n\n").unwrap().1.to_owned();

    let (status, problem) = send_later(stack, &format!("{PROOF};later;deferred"), &body).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unknown_mark")), "{problem}");
    let ready = client().get(stack.admin() + "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 200, "the backend still stores events whose mark it knows");
    let (status, problem) = send_later(stack, &format!("later-layout;{PROOF}"), &body).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unproven")), "{problem}");

    let (status, answer) = send_later(stack, &format!("{PROOF};later;accepted;more"), &body).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "further fields are ignored: {answer}");
    let (status, answer) = send_later(stack, &format!("{PROOF};later;accepted"), UNDOCUMENTED).await;
    assert_eq!((status, &answer["status"]), (202, &json!("quarantined")), "{answer}");
    let listed = stack.backend_command(&["quarantine"]).unwrap();
    assert!(listed.contains("case.accreditation.completed"), "{listed}");

    for unreadable in unreadable_events() {
        for mark in ["accepted", "quarantined"] {
            let (status, problem) = send_later(stack, &format!("{PROOF};later;{mark}"), &unreadable).await;
            assert_eq!(
                (status, &problem["code"]),
                (503, &json!("newer_filter")),
                "{mark} {unreadable:.200}: {problem}"
            );
        }
        let (status, problem) = send_later(stack, &format!("{PROOF};later;shadowed:later"), &unreadable).await;
        assert!((400..500).contains(&status), "nobody accepted {unreadable:.200}: {problem}");
    }
    // Another event, since the line is written only when an event is stored.
    let another = UNDOCUMENTED.replace("6850abc123def456ghi789", "another-case");
    let (status, answer) = send_later(stack, &format!("{PROOF};later;accepted"), &another).await;
    assert_eq!((status, &answer["status"]), (202, &json!("quarantined")), "{answer}");
    let metrics = stack.backend_metrics().await.unwrap();
    let answers = metrics.by_label("truenroll_backend_ingest_total", "answer");
    assert_eq!(answers["newer_filter"], 2 * unreadable_events().len() as u64, "{answers:?}");

    let log = fs::read_to_string(stack.folder().join("backend.log")).unwrap();
    for line in [
        "answered 503 to a request with a mark that this backend does not know",
        "answered 503 to a request with a proof that this backend does not know",
        "the filter accepted an event that this backend does not know",
        "answered 503 to an event that the filter accepted and this backend cannot read",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}\n{log}");
    }
}
