//! The only backend, and Redis, are restarted, and nothing is rejected.

use std::{collections::HashMap, time::Duration};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    simulator::{sender::Answer, world::Event},
    stack::Options,
};
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// How long the application takes for each of the attempts that run when the backend is told to
/// stop.
const SLOW: Duration = Duration::from_secs(15);

/// `count` events of one lane, in the order of their instants.
fn lane(fixture: &Fixture, case: &str, count: usize) -> Vec<Event> {
    let instants = (0..count).map(|second| format!("2025-06-22T10:30:{second:02}Z"));
    instants.map(|at| fixture.event(case, Feature::Extraction, Stage::Completed, &at)).collect()
}

/// Makes sure that each lane's outcomes were first delivered in the order of their instants.
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

async fn attempts_of_the_application(fixture: &Fixture, attempts: usize) {
    eventually("the application is busy", async || fixture.simulator.application.busy() >= attempts).await;
}

async fn ready(fixture: &Fixture) -> u16 {
    let answer = harness::simulator::sender::client().get(format!("{}/readyz", fixture.stack.admin())).send().await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_backend_restarts_beside_a_slow_application_and_nothing_is_rejected() {
    let mut fixture = Fixture::start().await;
    let ordered = lane(&fixture, "ordered", 5);
    fixture.simulator.application.fail_next(vec![(StatusCode::OK, SLOW); 20]);
    for event in &ordered {
        fixture.send_accepted(event).await;
    }
    let steady = fixture.steady("restart");
    attempts_of_the_application(&fixture, 20).await;
    let stopping = fixture.stack.backend.stop(PATIENCE).unwrap();
    assert!(stopping.expect("it stops by itself").success());
    fixture.stack.start_backend().unwrap();
    let sent = steady.sent();
    eventually("there is traffic after the restart", async || steady.sent() > sent + 50).await;
    let report = fixture.all_accepted_and_delivered(steady).await;
    fixture.delivered_once(report.sent + ordered.len()).await;
    in_order(&fixture);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_the_grace_period_cuts_off_is_taken_up_by_the_next_backend_at_once() {
    // A lease that would run out only long after this test's patience.
    let mut fixture =
        Fixture::start_with(|options| options.backend("shutdown.grace_ms", 500).backend("worker.lease_ms", 60_000))
            .await;
    let events = lane(&fixture, "cut-off", 3);
    fixture.simulator.application.fail_next([(StatusCode::OK, SLOW)]);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    attempts_of_the_application(&fixture, 1).await;
    assert!(fixture.stack.backend.stop(PATIENCE).unwrap().expect("it stops by itself").success());
    fixture.stack.start_backend().unwrap();
    fixture.delivered(events.len()).await;
    in_order(&fixture);
}

/// What an event is answered that is sent while a backend finishes its work.
async fn answer_during_shutdown(mutation: Option<&str>) -> Answer {
    let mutation = mutation.map(str::to_owned);
    let fixture =
        Fixture::start_with(|options| Options { mutation, ..options }.backend("shutdown.grace_ms", 60_000)).await;
    let [slow, late] = lane(&fixture, "late", 2).try_into().unwrap();
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(28))]);
    fixture.send_accepted(&slow).await;
    attempts_of_the_application(&fixture, 1).await;
    fixture.stack.backend.signal("TERM").unwrap();
    eventually("the backend says that it stops", async || ready(&fixture).await == 503).await;
    let answer = fixture.sender.send(&late).await;
    assert_eq!(fixture.simulator.application.busy(), 1, "the backend still works on the first one");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_finishes_its_work_still_stores_events() {
    assert!(matches!(answer_during_shutdown(None).await, Answer::Accepted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_ingest_closed_first_an_event_is_rejected_during_a_restart() {
    assert_eq!(answer_during_shutdown(Some("ingest")).await, Answer::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarts_and_nothing_is_rejected() {
    let mut fixture = Fixture::start().await;
    let steady = fixture.steady("redis");
    for downtime in [0, 5, 14] {
        let sent = steady.sent();
        eventually("there is traffic", async || steady.sent() > sent + 50).await;
        let began = Instant::now();
        fixture.stack.redis.as_mut().unwrap().process.stop(PATIENCE).unwrap();
        let stopped = began.elapsed();
        // The operation itself: somebody replaces the server meanwhile.
        sleep(Duration::from_secs(downtime)).await;
        fixture.stack.start_redis().unwrap();
        println!("  Redis stopped within {stopped:?}, and was back after {:?}", began.elapsed());
    }
    let report = fixture.all_accepted_and_delivered(steady).await;
    println!("  the longest wait was {:?}", report.longest);
}
