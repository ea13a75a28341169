//! Several backends share one Redis, and lanes do not wait for each other.

use std::time::Duration;

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{keys, simulator::world::Event, stack::Options};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// The number of partitions that each backend owns.
async fn owned(fixture: &Fixture) -> Vec<u64> {
    let all = fixture.stack.all_backend_metrics().await.unwrap_or_default();
    all.iter().map(|metrics| metrics.sum("truenroll_backend_partitions_owned", &[])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_evenly_released_on_shutdown_and_taken_over_after_a_kill() {
    let mut fixture = Fixture::start_with(|options| Options { replicas: 2, ..options }).await;
    let sorted = async |fixture: &Fixture| {
        let mut owned = owned(fixture).await;
        owned.sort_unstable();
        owned
    };
    eventually("the 16 partitions are shared as 6, 5 and 5", async || sorted(&fixture).await == [5, 5, 6]).await;

    let slow = (StatusCode::OK, Duration::from_millis(5));
    fixture.simulator.application.fail_next(vec![slow; 1_000]);
    for event in fixture.events("shared", 60) {
        fixture.send_accepted(&event).await;
    }
    // One backend stops, and the others take over its partitions without waiting for its leases to
    // expire.
    assert!(fixture.stack.replicas[1].stop(PATIENCE).unwrap().expect("it stops by itself").success());
    fixture.delivered_once(60).await;
    fixture.stack.start_replica(1).unwrap();
    eventually("the restarted backend has its share again", async || sorted(&fixture).await == [5, 5, 6]).await;

    fixture.stack.backend.kill().unwrap();
    for event in fixture.events("taken-over", 60) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered(120).await;
    fixture.stack.start_backend().unwrap();
    eventually("all three backends share the partitions again", async || sorted(&fixture).await == [5, 5, 6]).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_feature_does_not_delay_other_features() {
    let fixture = Fixture::start_with(|options| options.backend("worker.window", 2)).await;
    let said = fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    assert_eq!(said, "paused: extraction\n");
    eventually("the backend knows of the pause", async || {
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
async fn a_pause_is_in_effect_in_every_backend_when_the_command_returns() {
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
async fn a_pause_also_applies_to_events_that_wait_for_a_permit() {
    // With one permit, most events wait for it.
    let fixture = Fixture::start_with(|options| options.backend("worker.parallelism", 1)).await;
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(2))]);
    let event = |case: String| fixture.event(&case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    for number in 0..20 {
        fixture.send_accepted(&event(format!("permit-{number}"))).await;
    }
    eventually("one attempt is running", async || fixture.simulator.application.busy() == 1).await;
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    assert_eq!(fixture.simulator.application.counts().0, 0, "the pause does not wait for the running attempt");
    // An event of another feature is handled first, which shows that the waiting ones are not
    // attempted.
    fixture.delivered(1).await;
    fixture.send_accepted(&fixture.event("other", Feature::Forensics, Stage::Completed, "2025-06-22T10:30:00Z")).await;
    fixture.delivered_once(2).await;
    fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    fixture.delivered_once(21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ignores_dead_backends_and_names_one_that_does_not_confirm() {
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
async fn failing_lanes_do_not_delay_others_even_if_they_exceed_the_window() {
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
    eventually("all attempts have failed", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_retries_total", &[]) == 20
    })
    .await;
    for number in 0..20 {
        fixture.send_accepted(&event(&format!("good-{number}"))).await;
    }
    let is_good = |case: &str| case.starts_with("good");
    eventually("all other events are delivered", async || {
        fixture.simulator.application.deliveries().iter().filter(|delivery| is_good(&delivery.lane.0)).count() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_feature_is_not_delayed_by_features_without_events() {
    let fixture = Fixture::start_with(|options| {
        // With a window of one event, waiting for each empty feature would take a second per event.
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
