//! What the application receives is described in `docs/outcomes.openapi.yaml`. That each delivery of
//! every test is as described is checked by the fixture.

use std::{collections::BTreeSet, time::Duration};

use axum::http::HeaderMap;
use backend::handler::Recommendation;
use envelope::{EventName, Feature, Stage};
use harness::{collector::Collector, outcomes::Contract, simulator::application::Delivery, tools};
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn post() -> Value {
    tools::yaml(&Contract::file()).unwrap().remove(0)["webhooks"]["outcome"]["post"].take()
}

fn examples() -> Vec<Value> {
    let post = post();
    let examples = post["requestBody"]["content"]["application/json"]["examples"].as_object().unwrap();
    examples.values().map(|example| example["value"].clone()).collect()
}

/// The headers of a delivery of this body.
pub(crate) fn headers_of(body: &Value) -> HeaderMap {
    let headers = [
        ("idempotency-key", body["eventKey"].as_str().unwrap()),
        ("webhook-id", "msg_0123456789abcdef0123456789abcdef"),
        ("webhook-timestamp", "1750588201"),
        ("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("content-length", "700"),
        ("user-agent", "truenroll-edge/0.1.0"),
    ];
    headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// What kind of outcome a body brings: the event, and what the application is told.
fn kind(body: &Value) -> [String; 3] {
    let outcome = &body["outcome"];
    [&body["eventName"], &outcome["kind"], &outcome["recommendation"]]
        .map(|member| member.as_str().unwrap_or_default().to_owned())
}

/// How the code writes each recommendation. The compiler notices one that is missing here.
fn recommendations() -> BTreeSet<String> {
    let all = [Recommendation::Resubmit, Recommendation::ManualReview, Recommendation::Wait];
    let written = |recommendation| match recommendation {
        Recommendation::Resubmit | Recommendation::ManualReview | Recommendation::Wait => {
            serde_json::to_value(recommendation).unwrap().as_str().unwrap().to_owned()
        }
    };
    all.map(written).into_iter().collect()
}

#[test]
fn every_example_is_valid_and_no_outcome_lacks_one() {
    let contract = Contract::start().unwrap();
    let examples = examples();
    for example in &examples {
        contract.check(&headers_of(example), example).unwrap();
    }
    let names: BTreeSet<_> = examples.iter().map(|body| kind(body)[0].clone()).collect();
    let all =
        Feature::ALL.into_iter().flat_map(|feature| Stage::ALL.map(|stage| EventName { feature, stage }.to_string()));
    assert_eq!(names, all.collect());
    let examples: BTreeSet<_> =
        examples.iter().map(|body| kind(body)[2].clone()).filter(|kind| !kind.is_empty()).collect();
    assert_eq!(examples, recommendations());
}

#[test]
fn a_violation_is_found_and_its_path_is_named() {
    let contract = Contract::start().unwrap();
    let example = examples().into_iter().find(|body| kind(body)[2] == "wait").unwrap();
    for (at, value, path) in [
        ("/caseId", json!("a/b"), "$.body.caseId"),
        ("/externalId", json!(""), "$.body.externalId"),
        ("/occurredAt", json!("2025-06-22 10:30:00Z"), "$.body.occurredAt"),
        ("/receivedAtMs", json!("1750588201000"), "$.body.receivedAtMs"),
        ("/backfilled", Value::Null, "$.body.backfilled"),
        ("/eventName", json!("case.extraction.started"), "$.body.eventName"),
        ("/outcome", json!({}), "$.body.outcome"),
        ("/outcome/kind", json!("result"), "$.body.outcome"),
        ("/outcome/recommendation", json!("retry"), "$.body.outcome.recommendation"),
        ("/outcome/case/credentials/0/credentialId", json!(1), "$.body.outcome.case.credentials[0].credentialId"),
    ] {
        let mut body = example.clone();
        *body.pointer_mut(at).unwrap() = value;
        let violation = contract.check(&headers_of(&example), &body).unwrap_err().to_string();
        assert!(violation.contains(&format!(": {path}")), "{at}: {violation}");
    }
    for (name, value) in [("webhook-id", "msg_1"), ("user-agent", "curl"), ("webhook-signature", "v1,x")] {
        let mut headers = headers_of(&example);
        headers.insert(name, value.parse().unwrap());
        let violation = contract.check(&headers, &example).unwrap_err().to_string();
        assert!(violation.contains(name), "{violation}");
        headers.remove(name);
        assert_eq!(contract.check(&headers, &example).is_ok(), name == "webhook-signature", "{name} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_delivers_what_is_described_and_nothing_else() {
    // One header is sent only with traces.
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = Fixture::start_with(|options| {
        options.backend("telemetry.otlp_endpoint", collector.endpoint()).backend("telemetry.sampling", 1)
    })
    .await;
    for (number, feature) in Feature::ALL.into_iter().enumerate() {
        let at = "2025-06-22T10:30:00Z";
        let world = &fixture.simulator.world;
        let completed = fixture.event(&format!("completed-{number}"), feature, Stage::Completed, at);
        // A case of which this stage alone fails, which is all of it, or beside a completed or an
        // unfinished upload.
        let mut events = vec![completed];
        for other in [None, Some(true), Some(false)] {
            let case = format!("failed-{number}-{}", events.len());
            world.upload(&case, None, &[feature]);
            events.push(world.finish(&case, feature, Stage::Failed, at).unwrap());
            if let Some(is_completed) = other {
                world.upload(&case, None, &[feature]);
                is_completed.then(|| world.finish(&case, feature, Stage::Completed, at).unwrap());
            }
        }
        for event in &events {
            fixture.send_accepted(event).await;
        }
    }
    fixture.delivered_once(16).await;

    let deliveries = fixture.simulator.application.deliveries();
    let delivered: BTreeSet<_> = deliveries.iter().map(|delivery| kind(&delivery.body)).collect();
    let described = |feature: Feature| {
        let completed = [format!("case.{feature}.completed"), "result".to_owned(), String::new()];
        let failed = recommendations()
            .into_iter()
            .map(move |recommendation| [format!("case.{feature}.failed"), "recommendation".to_owned(), recommendation]);
        failed.chain([completed])
    };
    assert_eq!(delivered, Feature::ALL.into_iter().flat_map(described).collect());

    let document = tools::yaml(&Contract::file()).unwrap().remove(0);
    let members = |schema: &str| {
        let properties = document["components"]["schemas"][schema]["properties"].as_object();
        properties.unwrap().keys().cloned().collect::<BTreeSet<_>>()
    };
    let outcome = |schema| &members("Outcome") | &members(schema);
    for delivery in &deliveries {
        assert_eq!(names(&delivery.body), members("Delivery"));
        let expected = if delivery.body["outcome"]["kind"] == "result" { "Result" } else { "Recommendation" };
        assert_eq!(names(&delivery.body["outcome"]), outcome(expected));
        assert_eq!(sent_headers(delivery), described_headers());
    }
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// The names of the headers, without those by which HTTP itself works.
fn sent_headers(delivery: &Delivery) -> BTreeSet<String> {
    let of_http = ["host", "accept", "content-type"];
    delivery
        .headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|name| !of_http.contains(&name.as_str()))
        .collect()
}

fn described_headers() -> BTreeSet<String> {
    let post = post();
    let parameters = post["parameters"].as_array().unwrap();
    parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().to_lowercase()).collect()
}
