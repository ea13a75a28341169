//! Restarts of the only backend and of Redis reject nothing.

use std::{collections::HashMap, time::Duration};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    simulator::{sender::Answer, world::Event},
    stack::Options,
};
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// How long the application takes for each delivery that runs while the backend stops.
const SLOW: Duration = Duration::from_secs(15);

/// Returns `count` events of one lane, in order.
fn lane(fixture: &Fixture, case: &str, count: usize) -> Vec<Event> {
    let instants = (0..count).map(|second| format!("2025-06-22T10:30:{second:02}Z"));
    instants.map(|at| fixture.event(case, Feature::Extraction, Stage::Completed, &at)).collect()
}

/// Asserts that the first deliveries of each lane are in order.
fn in_order(fixture: &Fixture) {
    let mut lanes: HashMap<_, Vec<String>> = HashMap::new();
    for delivery in fixture.simulator.application.deliveries() {
        let keys = lanes.entry(delivery.lane).or_default();
        if !keys.contains(&delivery.key) {
            keys.push(delivery.key);
        }
    }
    for (lane, keys) in lanes {
        assert!(keys.is_sorted(), "{lane:?}: {keys:?}");
    }
}

async fn deliveries_are_running(fixture: &Fixture, count: usize) {
    eventually("the application is busy", async || fixture.simulator.application.busy() >= count).await;
}

async fn ready(fixture: &Fixture) -> u16 {
    let answer = harness::simulator::sender::client().get(format!("{}/readyz", fixture.stack.admin())).send().await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_the_only_backend_restarts_during_slow_deliveries() {
    let mut fixture = Fixture::start().await;
    let ordered = lane(&fixture, "ordered", 5);
    fixture.simulator.application.fail_next(vec![(StatusCode::OK, SLOW); 20]);
    for event in &ordered {
        fixture.send_accepted(event).await;
    }
    let steady = fixture.steady("restart");
    deliveries_are_running(&fixture, 20).await;
    let stopping = fixture.stack.backend.stop(PATIENCE).unwrap();
    assert!(stopping.expect("the backend was killed because it did not stop in time").success());
    fixture.stack.start_backend().unwrap();
    let sent = steady.sent();
    eventually("there is traffic after the restart", async || steady.sent() > sent + 50).await;
    let report = fixture.all_accepted_and_delivered(steady).await;
    fixture.delivered_once(report.sent + ordered.len()).await;
    in_order(&fixture);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_cut_off_by_the_grace_period_are_repeated_at_once_by_the_next_backend() {
    // The lease expires only long after this test would have failed.
    let mut fixture =
        Fixture::start_with(|options| options.backend("shutdown.grace_ms", 500).backend("worker.lease_ms", 60_000))
            .await;
    let events = lane(&fixture, "cut-off", 3);
    fixture.simulator.application.fail_next([(StatusCode::OK, SLOW)]);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    deliveries_are_running(&fixture, 1).await;
    assert!(
        fixture
            .stack
            .backend
            .stop(PATIENCE)
            .unwrap()
            .expect("the backend was killed because it did not stop in time")
            .success()
    );
    fixture.stack.start_backend().unwrap();
    fixture.delivered(events.len()).await;
    in_order(&fixture);
}

/// Returns the answer to an event that is sent while a stopping backend finishes an attempt.
async fn answer_during_shutdown(mutation: Option<&str>) -> Answer {
    let mutation = mutation.map(str::to_owned);
    let fixture =
        Fixture::start_with(|options| Options { mutation, ..options }.backend("shutdown.grace_ms", 60_000)).await;
    let [slow, late] = lane(&fixture, "late", 2).try_into().unwrap();
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(28))]);
    fixture.send_accepted(&slow).await;
    deliveries_are_running(&fixture, 1).await;
    fixture.stack.backend.signal("TERM").unwrap();
    eventually("the backend is not ready because it stops", async || ready(&fixture).await == 503).await;
    let answer = fixture.sender.send(&late).await;
    assert_eq!(fixture.simulator.application.busy(), 1, "the attempt of the first event is still running");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_backend_still_stores_events() {
    assert!(matches!(answer_during_shutdown(None).await, Answer::Accepted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_rejected_during_a_restart_if_the_ingest_closes_first() {
    assert_eq!(answer_during_shutdown(Some("ingest")).await, Answer::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_redis_restarts() {
    let mut fixture = Fixture::start().await;
    let steady = fixture.steady("redis");
    for downtime in [0, 14] {
        let sent = steady.sent();
        eventually("there is traffic", async || steady.sent() > sent + 50).await;
        let began = Instant::now();
        fixture.stack.redis.as_mut().unwrap().process.stop(PATIENCE).unwrap();
        let stopped = began.elapsed();
        // This is the operation: Redis is down for some time.
        sleep(Duration::from_secs(downtime)).await;
        fixture.stack.start_redis().unwrap();
        println!("  Redis stopped within {stopped:?} and was back after {:?}", began.elapsed());
    }
    let report = fixture.all_accepted_and_delivered(steady).await;
    println!("  the longest wait was {:?}", report.longest);
}
