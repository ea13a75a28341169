//! Secrets are replaced without rejecting anything.

use harness::{backend_settings::SINK_SECRET, stack::Options};

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
