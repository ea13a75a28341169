//! Writes the JSON document that the application receives for an event.

use std::io;

use serde::Serialize;

use crate::{
    document::{Document, DocumentBody},
    event::Event,
    handler::{Deliverable, HandlerError, Recommendation, Retry},
    partner_api::Case,
    time::to_millis,
};

/// The members that every document begins with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    /// Identifies the event. It is the same in each delivery of the event.
    event_key: &'a str,
    event_name: &'static str,
    feature: &'static str,
    case_id: &'a str,
    /// The partner's own reference for the case.
    external_id: Option<&'a str>,
    /// When the stage finished inside TruEnroll, RFC 3339.
    occurred_at: String,
    /// When the backend stored the event, in milliseconds since 1970.
    received_at_ms: u64,
    /// Whether the event never arrived. `occurredAt` is then when it was found to be missing.
    backfilled: bool,
}

/// The member `outcome` if it is a recommendation.
#[derive(Debug, Serialize)]
struct RecommendationOutcome<'a> {
    kind: &'static str,
    recommendation: Recommendation,
    case: &'a Case,
}

impl<'a> Head<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            event_key: event.key.as_str(),
            event_name: event.name.as_str(),
            feature: event.name.feature.as_str(),
            case_id: event.case_id.as_str(),
            external_id: event.external_id.as_deref(),
            occurred_at: event.occurred_at.to_string(),
            received_at_ms: to_millis(event.received_at),
            backfilled: event.backfilled,
        }
    }
}

/// Writes the document for an event and its outcome. A result is inserted byte for byte, and stays
/// in its file if it is large.
///
/// # Errors
/// If the case of a recommendation cannot be written as JSON.
pub(super) fn write(event: &Event, outcome: Deliverable) -> Result<DocumentBody, HandlerError> {
    let mut before = json(&Head::of(event))?;
    // The outcome is the last member, so the closing brace comes after it.
    before.pop();
    before.push_str(r#","outcome":"#);
    match outcome {
        Deliverable::Result(result) => {
            before.push_str(r#"{"kind":"result","result":"#);
            Ok(DocumentBody::new(before, result, "}}"))
        }
        Deliverable::Recommendation { recommendation, case } => {
            let outcome = RecommendationOutcome { kind: "recommendation", recommendation, case: &case };
            let outcome = Document::from_json(json(&outcome)?);
            Ok(DocumentBody::new(before, outcome, "}"))
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, HandlerError> {
    serde_json::to_string(value).map_err(|_| {
        let detail = "the outcome cannot be written as JSON".to_owned();
        HandlerError { code: "sink_unwritable", detail, retry: Retry::Never }
    })
}

/// The error for a large result whose file cannot be read.
pub(super) fn unreadable(error: &io::Error) -> HandlerError {
    tracing::error!("cannot read a large result from `partner_api.spool_folder`: {error}");
    let detail = "a large result cannot be read back from `partner_api.spool_folder`: check that disk".to_owned();
    HandlerError { code: "sink_unreadable", detail, retry: Retry::Later }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use bytes::Bytes;
    use http_body::Body;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{document::Spool, time::from_millis};

    /// An event of the documented example's case that arrived one second after it occurred.
    fn event(name: &str, external_id: Option<&str>) -> Event {
        let payload = json!({
            "caseId": "6850abc123def456ghi789", "externalId": external_id, "occurredAt": "2025-06-22T10:30:00Z",
        });
        let body = json!({ "eventName": name, "payload": payload }).to_string();
        Event::parse(body.as_bytes(), from_millis(1_750_588_201_000)).unwrap()
    }

    fn result(json: &str) -> Deliverable {
        Deliverable::Result(Document::from_json(json.to_owned()))
    }

    /// The whole document, read the way an HTTP client reads it.
    async fn sent(body: DocumentBody) -> String {
        let mut body = std::pin::pin!(body);
        let announced = body.size_hint().exact().unwrap();
        let mut all = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!(all.len() as u64, announced, "the body's length is the one announced");
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn a_result_is_inserted_byte_for_byte() {
        let event = event("case.forensics.completed", Some("applicant-9876"));
        let body = write(&event, result(r#"{"id" : 1.0, "forensics":[]}"#)).unwrap();
        assert_eq!(
            sent(body).await,
            concat!(
                r#"{"eventKey":"case.forensics.completed:6850abc123def456ghi789:2025-06-22T10:30:00Z","#,
                r#""eventName":"case.forensics.completed","feature":"forensics","#,
                r#""caseId":"6850abc123def456ghi789","externalId":"applicant-9876","#,
                r#""occurredAt":"2025-06-22T10:30:00Z","receivedAtMs":1750588201000,"backfilled":false,"#,
                r#""outcome":{"kind":"result","result":{"id" : 1.0, "forensics":[]}}}"#,
            )
        );
    }

    #[tokio::test]
    async fn a_recommendation_comes_with_its_case() {
        let event = event("case.translation.failed", None);
        let case = serde_json::from_value(json!({ "id": "c", "externalId": null, "status": "completed", "new": 1 }));
        let recommendation = Recommendation::ManualReview;
        let outcome = Deliverable::Recommendation { recommendation, case: Box::new(case.unwrap()) };
        assert_eq!(
            sent(write(&event, outcome).unwrap()).await,
            concat!(
                r#"{"eventKey":"case.translation.failed:6850abc123def456ghi789:2025-06-22T10:30:00Z","#,
                r#""eventName":"case.translation.failed","feature":"translation","#,
                r#""caseId":"6850abc123def456ghi789","externalId":null,"#,
                r#""occurredAt":"2025-06-22T10:30:00Z","receivedAtMs":1750588201000,"backfilled":false,"#,
                r#""outcome":{"kind":"recommendation","recommendation":"manual_review","#,
                r#""case":{"id":"c","externalId":null,"status":"completed","uploads":[],"credentials":[],"new":1}}}"#,
            )
        );
    }

    #[test]
    fn recommendations_are_written_in_snake_case() {
        for (recommendation, written) in [
            (Recommendation::Resubmit, "\"resubmit\""),
            (Recommendation::ManualReview, "\"manual_review\""),
            (Recommendation::Wait, "\"wait\""),
        ] {
            assert_eq!(serde_json::to_string(&recommendation).unwrap(), written);
        }
    }

    #[tokio::test]
    async fn a_backfilled_event_says_so() {
        let event = Event { backfilled: true, ..event("case.extraction.completed", None) };
        let document: Value = serde_json::from_str(&sent(write(&event, result("{}")).unwrap()).await).unwrap();
        assert_eq!(document["backfilled"], true);
        assert_eq!(document["externalId"], Value::Null);
    }

    #[tokio::test]
    async fn characters_are_escaped_where_json_demands_it() {
        let event = event("case.extraction.completed", Some("\"a\\b\"\n\u{1}é😀</script>"));
        let body = sent(write(&event, result("{}")).unwrap()).await;
        assert!(body.contains(r#""externalId":"\"a\\b\"\n\u0001é😀</script>""#), "{body}");
    }

    #[tokio::test]
    async fn a_result_in_a_file_is_the_same_document_as_one_in_memory() {
        let event = event("case.translation.completed", Some("x"));
        let json = format!(r#"{{"htmlPages":["{}"]}}"#, "é".repeat(1 << 20));
        let mut spool = Spool::new();
        for piece in json.as_bytes().chunks(100_000) {
            spool = spool.add(Bytes::copy_from_slice(piece), Arc::from(Path::new(""))).await.unwrap();
        }
        let in_file = spool.finish();
        assert!(in_file.in_memory().is_none());
        let in_file = sent(write(&event, Deliverable::Result(in_file)).unwrap()).await;
        let in_memory = sent(write(&event, result(&json)).unwrap()).await;
        assert!(in_file == in_memory, "the two documents differ");
    }

    /// Any JSON value, a few levels deep.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_document_parses_back_to_the_same_values(
            external_id in prop::option::of(prop::collection::vec(any::<char>(), 1..=128)),
            value in json_value(),
            received_at_ms in any::<u32>(),
            backfilled: bool,
        ) {
            let external_id: Option<String> = external_id.map(|characters| characters.into_iter().collect());
            let event = Event {
                external_id: external_id.clone(),
                received_at: std::time::UNIX_EPOCH + Duration::from_millis(received_at_ms.into()),
                backfilled,
                ..event("case.extraction.completed", None)
            };
            let written = serde_json::to_string(&value).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let document = runtime.block_on(sent(write(&event, result(&written)).unwrap()));
            prop_assert!(document.contains(&written), "the result is not inserted as it was written");
            let document: Value = serde_json::from_str(&document).unwrap();
            // Parsed the same way, since a number's last digit may differ from the original value.
            let value: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(&document["outcome"], &json!({ "kind": "result", "result": value }));
            prop_assert_eq!(&document["externalId"], &json!(external_id));
            prop_assert_eq!(&document["receivedAtMs"], &json!(received_at_ms));
            prop_assert_eq!(&document["backfilled"], &json!(backfilled));
            prop_assert_eq!(document.as_object().unwrap().len(), 9);
        }
    }
}
