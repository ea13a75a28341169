//! Planned operations reject nothing. During each, a sender posts 50 events per second and never
//! retries.

use harness::stack::Options;
use serde_json::json;

use crate::fixture::{Fixture, PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_policies_are_published() {
    let fixture = Fixture::start().await;
    let steady = fixture.steady("policy");
    for change in 1..=5 {
        eventually("there is traffic", async || steady.sent() > change * 20).await;
        let build = fixture.stack.build(json!({ "max_body_bytes": 10_000 + change })).unwrap();
        let publisher = fixture.stack.publisher().unwrap();
        tokio::task::spawn_blocking(move || publisher.publish(&build)).await.unwrap().unwrap();
    }
    fixture.all_accepted_and_delivered(steady).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_one_of_two_backends_restarts() {
    let mut fixture = Fixture::start_with(|options| Options { replicas: 1, ..options }).await;
    let steady = fixture.steady("scaled");
    for round in 1..=2 {
        eventually("there is traffic", async || steady.sent() > round * 50).await;
        assert!(fixture.stack.replicas[0].stop(PATIENCE).unwrap().expect("it stops by itself").success());
        fixture.stack.start_replica(0).unwrap();
    }
    fixture.all_accepted_and_delivered(steady).await;
}
