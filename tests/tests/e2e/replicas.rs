//! Several backends over one Redis, and lanes that do not wait for each other.

use std::time::Duration;

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{keys, simulator::world::Event, stack::Options};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// How many partitions each backend owns.
async fn owned(fixture: &Fixture) -> Vec<u64> {
    let all = fixture.stack.all_backend_metrics().await.unwrap_or_default();
    all.iter().map(|metrics| metrics.sum("truenroll_backend_partitions_owned", &[])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_evenly_given_back_on_shutdown_and_taken_over_after_a_kill() {
    let mut fixture = Fixture::start_with(|options| Options { replicas: 2, ..options }).await;
    let sorted = async |fixture: &Fixture| {
        let mut owned = owned(fixture).await;
        owned.sort_unstable();
        owned
    };
    eventually("16 partitions are 6, 5 and 5", async || sorted(&fixture).await == [5, 5, 6]).await;

    let slow = (StatusCode::OK, Duration::from_millis(5));
    fixture.simulator.application.fail_next(vec![slow; 1_000]);
    for event in fixture.events("shared", 60) {
        fixture.send_accepted(&event).await;
    }
    // One leaves, and the others have its part well before a lease of its would have run out.
    assert!(fixture.stack.replicas[1].stop(PATIENCE).unwrap().expect("it stops by itself").success());
    fixture.delivered_once(60).await;
    fixture.stack.start_replica(1).unwrap();
    eventually("it has its share again", async || sorted(&fixture).await == [5, 5, 6]).await;

    fixture.stack.backend.kill().unwrap();
    for event in fixture.events("taken-over", 60) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered(120).await;
    fixture.stack.start_backend().unwrap();
    eventually("all three share again", async || sorted(&fixture).await == [5, 5, 6]).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_feature_waits_and_no_other_does() {
    let fixture = Fixture::start_with(|options| options.backend("worker.window", 2)).await;
    let said = fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    assert_eq!(said, "paused: extraction\n");
    eventually("the backend has heard of it", async || {
        fixture
            .stack
            .backend_metrics()
            .await
            .unwrap()
            .sum("truenroll_backend_feature_paused", &["feature=\"extraction\""])
            == 1
    })
    .await;
    let events = fixture.events("paused", 200);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(150).await;
    let is_extraction = |key: &str| key.contains("extraction");
    assert!(!fixture.simulator.application.deliveries().iter().any(|delivery| is_extraction(&delivery.key)));
    assert_eq!(fixture.stack.backend_command(&["resume", "extraction"]).unwrap(), "paused: none\n");
    fixture.delivered_once(200).await;
    assert!(fixture.stack.backend_command(&["pause", "verification"]).unwrap_err().to_string().contains("must be"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_in_every_backend_from_the_moment_it_returns() {
    let fixture = Fixture::start_with(|options| Options { replicas: 1, ..options }).await;
    let event = |case: String| fixture.event(&case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    for round in 0..3 {
        fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
        let before = fixture.simulator.application.counts().0;
        for number in 0..40 {
            fixture.send_accepted(&event(format!("paused-{round}-{number}"))).await;
        }
        assert_eq!(fixture.simulator.application.counts().0, before, "in round {round}");
        fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
        fixture.delivered_once(40 * (round + 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lets_what_waits_for_a_permit_wait() {
    // One attempt at a time, so that most events wait for that one.
    let fixture = Fixture::start_with(|options| options.backend("worker.parallelism", 1)).await;
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(3))]);
    let event = |case: String| fixture.event(&case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    for number in 0..20 {
        fixture.send_accepted(&event(format!("permit-{number}"))).await;
    }
    eventually("one is attempted", async || fixture.simulator.application.busy() == 1).await;
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    assert_eq!(fixture.simulator.application.counts().0, 0, "the pause does not wait for the attempt in progress");
    // What is resumed is worked on only after what is paused was not.
    fixture.delivered(1).await;
    fixture.send_accepted(&fixture.event("other", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z")).await;
    fixture.delivered_once(2).await;
    fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    fixture.delivered_once(21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_no_backend_that_is_gone_and_names_one_that_does_not_confirm() {
    let mut fixture = Fixture::start_with(|options| Options { replicas: 1, ..options }).await;
    fixture.stack.replicas[0].kill().unwrap();
    assert_eq!(fixture.stack.backend_command(&["pause", "extraction"]).unwrap(), "paused: extraction\n");
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut add = redis::cmd("ZADD");
    add.arg(keys::keys().members()).arg("9e15").arg("an-older-version");
    add.exec(&mut client.get_connection().unwrap()).unwrap();
    let said = fixture.stack.backend_command(&["pause", "forensics"]).unwrap_err().to_string();
    assert!(said.contains("an-older-version"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_fail_do_not_keep_others_waiting_even_if_they_are_more_than_the_window_holds() {
    let fixture = Fixture::start_with(|options| {
        options
            .backend("worker.window", 2)
            .backend("redis.partitions", 1)
            .backend("worker.backoff_base_ms", 60_000)
            .backend("worker.backoff_cap_ms", 60_000)
    })
    .await;
    let event = |case: &str| fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    let failing: Vec<Event> = (0..20).map(|number| event(&format!("failing-{number}"))).collect();
    fixture.simulator.application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 20]);
    for event in &failing {
        fixture.send_accepted(event).await;
    }
    eventually("all of them have failed", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]) == 20
    })
    .await;
    for number in 0..20 {
        fixture.send_accepted(&event(&format!("good-{number}"))).await;
    }
    let is_good = |case: &str| case.starts_with("good");
    eventually("all the others are delivered", async || {
        fixture.simulator.application.deliveries().iter().filter(|delivery| is_good(&delivery.lane.0)).count() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_feature_is_not_held_up_by_features_without_events() {
    let fixture = Fixture::start_with(|options| {
        // With room for one event at a time, each waited for would take a second.
        options.backend("redis.partitions", 1).backend("worker.window", 1)
    })
    .await;
    for number in 0..80 {
        let case = format!("backlog-{number}");
        fixture
            .send_accepted(&fixture.event(&case, Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z"))
            .await;
    }
    fixture.delivered_once(80).await;
}
