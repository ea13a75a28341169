//! How many requests and connections can wait at the edge, and what becomes of those beyond the bound.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use tests::simulator::world::Event;
use tokio::{sync::Mutex, task::JoinSet};

use crate::fixture::{Fixture, eventually, peak, resident};

/// The bound in Envoy's bootstrap on requests that wait for their next attempt.
const MAY_WAIT: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_backend_are_bounded_and_the_rest_are_rejected_at_once() {
    let mut fixture = Fixture::start().await;
    let before = resident(fixture.stack.envoy.pid());
    fixture.stack.backend.kill().unwrap();
    let events = fixture.events("waiting", MAY_WAIT * 3 / 2);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut requests = JoinSet::new();
    // Envoy allows 100 requests at a time on each connection.
    for of_one_connection in events.chunks(100) {
        let builder = backend::sink::http_client(Duration::from_secs(60)).no_proxy();
        let client = builder.http2_prior_knowledge().build().unwrap();
        for event in of_one_connection {
            requests.spawn(post(client.clone(), fixture.stack.webhook(), padded(event), Arc::clone(&answers)));
        }
    }
    let beyond = events.len() - MAY_WAIT;
    eventually("those beyond the bound are rejected", async || answers.lock().await.len() >= beyond).await;
    let grown = peak(fixture.stack.envoy.pid()).saturating_sub(before) >> 20;
    fixture.stack.start_backend().unwrap();
    requests.join_all().await;

    let answers = answers.lock().await;
    let (accepted, rejected): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    for answer in &rejected {
        let parts = (answer.status.as_u16(), answer.kind.as_str(), answer.body.contains(r#""code":"unavailable""#));
        assert_eq!(parts, (503, "application/problem+json", true), "{answer:?}");
        assert!(answer.retry_after, "{answer:?}");
    }
    let (accepted, rejected) = (accepted.len(), rejected.len());
    tests::tools::say(&format!("{accepted} waited, {rejected} were rejected; Envoy grew by {grown} MiB"));
    // Each of Envoy's two workers may pass the bound by the request that it is looking at.
    assert!(accepted.abs_diff(MAY_WAIT) <= 2, "{accepted} waited");
    assert!(grown < 400, "Envoy grew by {grown} MiB");
}

#[derive(Debug)]
struct Answered {
    status: StatusCode,
    kind: String,
    retry_after: bool,
    body: String,
}

async fn post(client: Client, url: String, body: String, answers: Arc<Mutex<Vec<Answered>>>) {
    let answer = client.post(url).header(CONTENT_TYPE, "application/json").body(body).send().await.unwrap();
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let (status, retry_after) = (answer.status(), answer.headers().contains_key("retry-after"));
    let answered = Answered { status, kind, retry_after, body: answer.text().await.unwrap() };
    answers.lock().await.push(answered);
}

/// The event with as many bytes of a field that is not documented as a body may have.
fn padded(event: &Event) -> String {
    let padding = "x".repeat(16_384 - event.body.len() - r#""padding":"","#.len());
    event.body.replacen('{', &format!(r#"{{"padding":"{padding}","#), 1)
}
