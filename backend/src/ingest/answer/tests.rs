use std::collections::BTreeSet;

use envelope::{CaseId, Code, EventName, Feature, Stage, Timestamp};
use serde_json::{Value, json};

use super::*;

const KEY: &str = "case.extraction.completed:6850abc123def456ghi789:2025-06-22T10:30:00Z";

const ACKNOWLEDGEMENTS: [(Acknowledgement, &str, &str); 7] = [
    (Acknowledgement::Accepted, "accepted", "accepted"),
    (Acknowledgement::Quarantined, "quarantined", "quarantined"),
    (Acknowledgement::Revived, "revived", "accepted"),
    (Acknowledgement::RevivedConflict, "revived_conflict", "accepted"),
    (Acknowledgement::Duplicate, "duplicate", "duplicate"),
    (Acknowledgement::AlreadyBackfilled, "already_backfilled", "duplicate"),
    (Acknowledgement::Conflict, "conflict", "duplicate"),
];

fn key() -> EventKey {
    let event = EventName { feature: Feature::Extraction, stage: Stage::Completed };
    let case = CaseId::new("6850abc123def456ghi789").unwrap();
    EventKey::new(event, &case, Timestamp::parse("2025-06-22T10:30:00Z").unwrap())
}

fn all() -> Vec<Answer> {
    let mut all = vec![Answer::Unproven, Answer::UnknownMark, Answer::NewerFilter, Answer::Unavailable];
    all.extend(ACKNOWLEDGEMENTS.map(|(acknowledgement, ..)| Answer::Acknowledged(acknowledgement, key())));
    all.extend(Code::ALL.map(|code| Answer::Rejected(Rejection::new(code))));
    all
}

fn header_of(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

async fn body_of(response: Response) -> Value {
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn labels_are_unique() {
    let all = all();
    let labels: BTreeSet<_> = all.iter().map(Answer::label).collect();
    assert_eq!(labels.len(), all.len());
}

#[tokio::test]
async fn an_acknowledgement_is_202_and_names_the_event() {
    for (acknowledgement, label, status) in ACKNOWLEDGEMENTS {
        let answer = Answer::Acknowledged(acknowledgement, key());
        assert_eq!(answer.label(), label);
        let response = answer.into_response();
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{label}");
        assert_eq!(header_of(&response, "content-type").as_deref(), Some("application/json"), "{label}");
        assert_eq!(header_of(&response, headers::EVENT_KEY).as_deref(), Some(KEY), "{label}");
        assert_eq!(header_of(&response, headers::REJECTION), None, "{label}");
        assert_eq!(header_of(&response, "retry-after"), None, "{label}");
        assert_eq!(body_of(response).await, json!({ "status": status, "eventKey": KEY }), "{label}");
    }
}

#[tokio::test]
async fn every_other_answer_is_a_problem_with_its_label_as_code() {
    for answer in all().into_iter().filter(|answer| !matches!(answer, Answer::Acknowledged(..))) {
        let label = answer.label();
        let expected = match &answer {
            Answer::Rejected(rejection) => rejection.code.status(),
            _ => 503,
        };
        let response = answer.into_response();
        assert_eq!(response.status(), expected, "{label}");
        assert_eq!(header_of(&response, "content-type").as_deref(), Some("application/problem+json"), "{label}");
        assert_eq!(header_of(&response, headers::REJECTION).as_deref(), Some(label));
        assert_eq!(header_of(&response, headers::EVENT_KEY), None, "{label}");
        let retry_after = header_of(&response, "retry-after");
        assert_eq!(retry_after.as_deref(), (expected == 503).then_some("1"), "{label}");
        let body = body_of(response).await;
        assert_eq!((&body["code"], &body["status"]), (&json!(label), &json!(expected)));
        assert_eq!(body["type"], format!("urn:truenroll-edge:problem:{label}"));
        assert!(body["title"].is_string(), "{body}");
    }
}

#[test]
fn an_event_is_acknowledged_by_what_the_inbox_did_and_where() {
    let inbox = Place::Inbox(Feature::Extraction);
    for (accepted, place, expected) in [
        (Accepted::Stored, inbox, Acknowledgement::Accepted),
        (Accepted::Stored, Place::Quarantine, Acknowledgement::Quarantined),
        (Accepted::Duplicate, inbox, Acknowledgement::Duplicate),
        (Accepted::Duplicate, Place::Quarantine, Acknowledgement::Duplicate),
        (Accepted::Revived, inbox, Acknowledgement::Revived),
        (Accepted::RevivedConflict, inbox, Acknowledgement::RevivedConflict),
        (Accepted::AlreadyBackfilled, inbox, Acknowledgement::AlreadyBackfilled),
        (Accepted::Conflict, inbox, Acknowledgement::Conflict),
        (Accepted::Conflict, Place::Quarantine, Acknowledgement::Conflict),
    ] {
        assert_eq!(Acknowledgement::of(accepted, place), expected);
    }
}
