//! The edge decides through Envoy as it decides without.

use std::collections::BTreeMap;

use envelope::vectors::{self, Refused, Vector};
use tests::simulator::sender::Answer;

use crate::fixture::{Fixture, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn every_golden_vector_is_decided_as_it_says() {
    let fixture = Fixture::start().await;
    let publisher = fixture.stack.publisher().unwrap();
    let mut by_policy: BTreeMap<String, Vec<Vector>> = BTreeMap::new();
    for vector in vectors::all().unwrap() {
        by_policy.entry(vector.policy.to_string()).or_default().push(vector);
    }
    assert!(by_policy.len() > 5, "the vectors have several policies");
    let mut wrong = Vec::new();
    for vectors in by_policy.values() {
        publisher.publish(&fixture.stack.build(vectors[0].policy.clone()).unwrap()).unwrap();
        for vector in vectors {
            let answer = fixture.sender.send_vector(&fixture.stack.edge(), vector).await;
            let decided = match answer.clone() {
                Answer::Accepted(key) | Answer::Duplicate(key) => Ok(key),
                Answer::Refused(_, code, pointer) => Err(Refused { code, pointer }),
                Answer::Unavailable => Err(Refused { code: "unavailable".to_owned(), pointer: None }),
            };
            let expected = vector.expected().map(|accepted| accepted.key);
            if decided != expected {
                wrong.push(format!("{}: {answer:?} instead of {expected:?}", vector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_trailers_is_judged() {
    let fixture = Fixture::start().await;
    let good = fixture.events("trailers", 1).remove(0);
    for (body, status) in [("{bad", 400), ("", 400), (good.body.as_str(), 202)] {
        assert_eq!(post_with_trailers(&fixture, body).await, status, "{body:?}");
    }
    fixture.delivered_once(1).await;
}

/// Posts over HTTP/2 with the body in one frame for each byte, and trailers instead of an end of the stream.
async fn post_with_trailers(fixture: &Fixture, body: &str) -> u16 {
    let address = fixture.stack.edge().replace("http://", "");
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request =
        axum::http::Request::post(fixture.stack.webhook()).header("content-type", "application/json").body(()).unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    for byte in body.bytes() {
        stream.send_data(vec![byte].into(), false).unwrap();
    }
    let trailers = [("x-checksum".parse().unwrap(), "1".parse().unwrap())];
    stream.send_trailers(trailers.into_iter().collect()).unwrap();
    answer.await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_says_what_is_wrong_and_repeats_nothing() {
    let fixture = Fixture::start().await;
    let client = tests::simulator::sender::client();
    let body =
        r#"{"eventName":"case.extraction.complete","payload":{"caseId":"SECRET","occurredAt":"2025-06-22T10:30:00Z"}}"#;
    let request = client.post(fixture.stack.webhook()).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["x-edge-refusal"], "unknown_event");
    let text = answer.text().await.unwrap();
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&problem["code"], &problem["pointer"]), (&"unknown_event".into(), &"/eventName".into()));
    assert!(!text.contains("SECRET"), "{text}");

    let refusal = || {
        let log = fixture.stack.envoy.log();
        let line = log.lines().find(|line| line.contains("unknown_event"))?;
        Some(serde_json::from_str::<serde_json::Value>(line).expect("the access log is JSON"))
    };
    eventually("the access log has the refusal", async || refusal().is_some()).await;
    let line = refusal().unwrap();
    assert_eq!((&line["status"], &line["refusal"]), (&422.into(), &"unknown_event".into()));
}
