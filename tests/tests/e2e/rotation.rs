//! Secrets are replaced without rejecting anything.

use harness::{
    backend_settings::{API_KEY, SINK_SECRET},
    stack::Options,
};

use crate::fixture::{Fixture, PATIENCE, eventually};

const NEW_SECRET: &str = "whsec_dGhlLW5ldy1zZWNyZXQtb2YtdGhlLWFwcGxpY2F0aW9u";

/// Gives both backends a secret, one after the other.
fn set_secret(fixture: &mut Fixture, secret: &str) {
    fixture.stack.set_backend("sink.secret", secret);
    assert!(fixture.stack.backend.stop(PATIENCE).unwrap().expect("it stops by itself").success());
    fixture.stack.start_backend().unwrap();
    assert!(fixture.stack.replicas[0].stop(PATIENCE).unwrap().expect("it stops by itself").success());
    fixture.stack.start_replica(0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_rejects_no_outcome_while_its_secret_is_replaced() {
    let mut fixture = Fixture::start_with(|options| Options { replicas: 1, ..options }).await;
    let steady = fixture.steady("rotated");
    eventually("there is traffic", async || steady.sent() > 50).await;
    set_secret(&mut fixture, &format!("{NEW_SECRET} {SINK_SECRET}"));
    let sent = steady.sent();
    eventually("outcomes are signed with both secrets", async || steady.sent() > sent + 50).await;
    fixture.simulator.application.change_secret(NEW_SECRET).unwrap();
    set_secret(&mut fixture, NEW_SECRET);
    let sent = steady.sent();
    eventually("outcomes are signed with the new secret", async || steady.sent() > sent + 50).await;
    fixture.all_accepted_and_delivered(steady).await;
    assert_eq!(fixture.simulator.application.complaints(), [""; 0]);
    let deliveries = fixture.simulator.application.deliveries();
    let signatures = deliveries.iter().map(|delivery| delivery.headers["webhook-signature"].to_str().unwrap());
    let mut numbers: Vec<_> = signatures.map(|signatures| signatures.split(' ').count()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_delivered_at_its_first_attempt_while_the_api_key_is_replaced() {
    const NEW_KEY: &str = "the-new-key";
    let keys = format!("{NEW_KEY} {API_KEY}");
    let fixture = Fixture::start_with(|options| options.backend("partner_api.api_key", keys)).await;
    let rejections =
        async || fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_api_key_rejections_total", &[]);
    let delivered = || fixture.simulator.application.deliveries().len();
    let steady = fixture.steady("key");
    eventually("the old key is used", async || delivered() > 50).await;
    let before = rejections().await;
    assert!(before >= 1, "the new key is not valid yet");
    let count = delivered();
    eventually("the old key stays in use", async || delivered() > count + 50).await;
    assert_eq!(rejections().await, before, "only the first calls try the new key");
    fixture.simulator.world.change_api_key(NEW_KEY);
    let count = delivered();
    eventually("the new key is used", async || delivered() > count + 50).await;
    fixture.all_accepted_and_delivered(steady).await;
    assert!(rejections().await > before, "the old key is rejected");
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    assert_eq!(metrics.sum("truenroll_backend_retries_total", &[]), 0);
    assert_eq!(metrics.sum("truenroll_backend_dead_letters_total", &[]), 0);
}
